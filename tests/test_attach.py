"""A rotation in attention layers of others: nothing changes before a turn, then exactly its row."""

import copy
import math
import pickle
import re

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from rollingq_core import QueryRotation, RollingQ, minimal_rotation
from rollingq_core.attach import attach, mean_keys

DIM, HEADS, LENGTH = 16, 2, 9
SPANS = {"audio": (1, 5), "visual": (5, 9)}


class BertStyle(nn.Module):
    """As in BERT: a map each for queries, keys and values; the output map is elsewhere."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(DIM, DIM) for _ in range(3))

    def forward(self, x):
        q, k, v = (m(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for m in self.children_maps())
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def children_maps(self):
        return self.query, self.key, self.value


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        timm = pytest.importorskip("timm.layers.attention")
        self.inner = timm.Attention(DIM, HEADS, qkv_bias=True)

    def forward(self, x):
        return self.inner(x)


class Multihead(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.inner = nn.MultiheadAttention(DIM, HEADS, **{"batch_first": True, **options})

    def forward(self, x, **options):
        x = x if self.inner.batch_first else x.transpose(0, 1)
        output = self.inner(x, x, x, **options)[0]
        return output if self.inner.batch_first else output.transpose(0, 1)


class Block(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.inner = nn.TransformerEncoderLayer(
            DIM, HEADS, 32, **{"batch_first": True, "dropout": 0.0, **options}
        )

    def forward(self, x, **options):
        return self.inner(x, **options)


KINDS = {
    "multihead": Multihead,
    "multihead, sequence first": lambda: Multihead(batch_first=False),
    "multihead without bias": lambda: Multihead(bias=False),
    "multihead, own widths": lambda: Multihead(kdim=DIM, vdim=DIM),
    "block": Block,
    "block, norm first": lambda: Block(norm_first=True),
    "fused": Fused,
    "separate": BertStyle,
}


@pytest.fixture(params=KINDS)
def model(request):
    torch.manual_seed(0)
    model = KINDS[request.param]()
    for name, parameter in model.named_parameters():
        if "bias" in name:  # which start at zero in some, where a fault would not show
            nn.init.normal_(parameter, std=0.3)
    return model


def inner(model):
    return getattr(model, "inner", model)


def attention_of(model):
    return getattr(inner(model), "self_attn", inner(model))


def tokens(seed=1):
    return torch.randn(3, LENGTH, DIM, generator=torch.Generator().manual_seed(seed))


def turn(seed=2):
    return minimal_rotation(
        *torch.randn(2, DIM, generator=torch.Generator().manual_seed(seed)).unbind()
    )


def maps(layer):
    """Weights and biases of queries, keys and values, and the output map."""
    if isinstance(layer, nn.MultiheadAttention):
        if layer.in_proj_weight is None:
            weights = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        else:
            weights = layer.in_proj_weight.chunk(3)
        bias = layer.in_proj_bias
        return weights, [None] * 3 if bias is None else bias.chunk(3), layer.out_proj
    if hasattr(layer, "qkv"):
        return layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3), layer.proj
    separate = (layer.query, layer.key, layer.value)
    return [m.weight for m in separate], [m.bias for m in separate], nn.Identity()


def plain(layer, x, rotation, padding=None, mask=None):
    """The textbook form with the first query rotated."""
    (q, k, v), output = (
        [linear(x, w, b) for w, b in zip(*maps(layer)[:2], strict=True)],
        maps(layer)[2],
    )
    q = torch.cat((q[:, :1] @ rotation, q[:, 1:]), dim=1)
    q, k, v = (m.unflatten(-1, (HEADS, -1)).transpose(1, 2) for m in (q, k, v))
    scores = q @ k.mT / math.sqrt(DIM // HEADS)
    if mask is not None:
        scores = scores.masked_fill(mask, -math.inf)
    if padding is not None:
        scores = scores.masked_fill(padding[:, None, None], -math.inf)
    return output((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def expected(model, x, rotation, **options):
    block = inner(model)
    if not isinstance(block, nn.TransformerEncoderLayer):
        return plain(block, x, rotation, **options)
    if block.norm_first:
        x = x + plain(block.self_attn, block.norm1(x), rotation, **options)
        return x + block._ff_block(block.norm2(x))
    x = block.norm1(x + plain(block.self_attn, x, rotation, **options))
    return block.norm2(x + block._ff_block(x))


@pytest.mark.parametrize("training", [False, True])
def test_before_a_turn_nothing_has_changed(model, training):
    model.train(training)
    before, grads = model(tokens()), []
    attach(inner(model), SPANS)
    assert torch.equal(model(tokens()), before)
    with torch.no_grad():  # where a fast path may be taken
        after = model(tokens())
        fresh = copy.deepcopy(model)
        del grads
        assert torch.equal(after, fresh(tokens()))


def test_the_fast_path_is_kept_before_a_turn_and_left_after_it():
    torch.manual_seed(0)
    model = Block().eval()
    with torch.no_grad():
        before = model(tokens())
        handle = attach(model.inner, SPANS)
        assert torch.equal(model(tokens()), before)
        handle.rotation.rotate(turn())
        torch.testing.assert_close(
            model(tokens()), expected(model, tokens(), turn()), atol=1e-6, rtol=0
        )
        assert not torch.allclose(model(tokens())[:, 0], before[:, 0], atol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_after_a_turn_the_row_is_that_of_the_rotated_query(model, training):
    model.train(training)
    handle = attach(inner(model), SPANS)
    handle.rotation.rotate(turn())
    torch.testing.assert_close(
        model(tokens()), expected(model, tokens(), turn()), atol=1e-6, rtol=1e-6
    )


def test_what_is_observed_is_the_query_and_the_average_keys(model):
    handle = attach(inner(model), SPANS)
    handle.rotation.rotate(turn())
    model.eval()(tokens())
    assert handle.output is None  # training batches only
    model.train()(tokens(3))
    x = tokens(3)
    if getattr(inner(model), "norm_first", False):
        x = inner(model).norm1(x)
    weights, biases, _ = maps(attention_of(model))
    query = linear(x[:, 0], weights[0], biases[0]) @ turn()
    keys = linear(x, weights[1], biases[1])
    torch.testing.assert_close(handle.output.query, query, atol=1e-6, rtol=1e-5)
    expected_keys = torch.stack([keys[:, 1:5].mean(1), keys[:, 5:].mean(1)], dim=1)
    torch.testing.assert_close(handle.output.mean_keys, expected_keys, atol=1e-6, rtol=1e-5)
    assert not handle.output.query.requires_grad


def test_rollingq_turns_it(model):
    model.train()
    handle = attach(inner(model), SPANS)
    rolling = RollingQ(handle, rho=3, beta=0.0, max_rotations=1)
    model(tokens())
    rolling.observe(handle.output)
    event = rolling.end_epoch()
    before = rolling.last.query
    assert event.count == 1
    model(tokens())
    rolling.observe(handle.output)
    rolling.end_epoch()
    turned = before @ handle.rotation.matrix.double()
    torch.testing.assert_close(rolling.last.query, turned, atol=1e-5, rtol=1e-5)
    angle = math.acos(float(torch.cosine_similarity(before, turned, dim=0)))
    assert angle == pytest.approx(event.angle, abs=1e-4)
    assert event.angle > 0.1


def test_detaching_undoes_it(model):
    before = copy.deepcopy(model.eval())
    handle = attach(inner(model), SPANS)
    handle.rotation.rotate(turn())
    model.train()(tokens())
    model.eval()
    handle.detach()
    assert torch.equal(model(tokens()), before(tokens()))
    with torch.no_grad():
        assert torch.equal(model(tokens()), before(tokens()))
    assert list(model.state_dict()) == list(before.state_dict())
    assert type(attention_of(model)) is type(attention_of(before))
    assert set(vars(attention_of(model))) == set(vars(attention_of(before)))
    attach(inner(model), SPANS)  # and again


def test_a_state_dict_carries_the_turn(model, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    handle = attach(inner(model), SPANS)
    fresh = copy.deepcopy(model)
    handle.rotation.rotate(turn())
    safetensors.save_model(model, str(tmp_path / "model.safetensors"))
    safetensors.load_model(fresh, str(tmp_path / "model.safetensors"))
    for one in (model.eval(), fresh.eval()):
        with torch.no_grad():
            torch.testing.assert_close(
                one(tokens()), expected(one, tokens(), turn()), atol=1e-6, rtol=1e-6
            )


def test_a_copy_is_a_model_of_its_own(model):
    handle = attach(inner(model), SPANS)
    other = copy.deepcopy(model)
    handle.rotation.rotate(turn())
    assert not torch.allclose(model(tokens())[:, 0], other(tokens())[:, 0], atol=1e-3)
    attention_of(other).rotation.rotate(turn())
    torch.testing.assert_close(model(tokens()), other(tokens()))
    if not isinstance(model, BertStyle | Fused):
        third = pickle.loads(pickle.dumps(model))
        torch.testing.assert_close(model(tokens()), third(tokens()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multihead", "block", "fused", "separate"])
@pytest.mark.parametrize("turned", [False, True])
def test_compiles_as_one_graph(kind, turned):
    torch.manual_seed(0)
    model = KINDS[kind]().train()
    handle = attach(inner(model), SPANS)
    if turned:
        handle.rotation.rotate(turn())
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(tokens()), model(tokens()), atol=1e-6, rtol=1e-6)
    compiled(tokens(5))
    observed = handle.output
    model(tokens(5))
    torch.testing.assert_close(observed.query, handle.output.query)
    torch.testing.assert_close(observed.mean_keys, handle.output.mean_keys)


@pytest.mark.parametrize("kind", ["multihead", "multihead, sequence first", "block"])
def test_masks_hide_keys_from_the_rotated_query_too(kind):
    torch.manual_seed(0)
    model = KINDS[kind]().train()
    handle = attach(inner(model), SPANS)
    handle.rotation.rotate(turn())
    padding = torch.zeros(3, LENGTH, dtype=torch.bool)
    padding[0, 3:5], padding[1, 5:] = True, True
    name = "src_key_padding_mask" if kind == "block" else "key_padding_mask"
    found = model(tokens(), **{name: padding})
    torch.testing.assert_close(
        found, expected(model, tokens(), turn(), padding=padding), atol=1e-6, rtol=1e-6
    )
    keys = handle.output.mean_keys
    assert keys[1, 1].eq(0).all()  # this sample has no visual token
    assert keys[:, 0].ne(0).any(dim=-1).all()


def test_attention_masks_and_weights_of_multihead_attention():
    torch.manual_seed(0)
    model = Multihead().eval()
    handle = attach(model.inner, SPANS)
    handle.rotation.rotate(turn())
    mask = torch.rand(LENGTH, LENGTH) < 0.3
    mask.fill_diagonal_(False)
    x = tokens()
    found, weights = model.inner(x, x, x, attn_mask=mask)
    torch.testing.assert_close(found, plain(model.inner, x, turn(), mask=mask), atol=1e-6, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, LENGTH))
    assert weights[:, mask].eq(0).all()
    by_head = mask.expand(3 * HEADS, -1, -1)
    _, each = model.inner(x, x, x, attn_mask=by_head, average_attn_weights=False)
    torch.testing.assert_close(each.mean(1), weights)
    added = torch.zeros(LENGTH, LENGTH).masked_fill(mask, -math.inf)
    torch.testing.assert_close(model.inner(x, x, x, attn_mask=added)[0], found)
    assert model.inner(x, x, x, need_weights=False)[1] is None


def test_a_class_token_that_asks_other_tokens():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    handle = attach(layer, [(0, 4), (4, 9)])
    handle.rotation.rotate(turn())
    cls, x = torch.randn(3, 1, DIM), tokens()
    found, _ = layer(cls, x, x)
    q = linear(cls, layer.in_proj_weight.chunk(3)[0], layer.in_proj_bias.chunk(3)[0]) @ turn()
    k, v = (
        linear(x, w, b)
        for w, b in list(
            zip(layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True)
        )[1:]
    )
    q, k, v = (m.unflatten(-1, (HEADS, -1)).transpose(1, 2) for m in (q, k, v))
    fused = (q @ k.mT / math.sqrt(DIM // HEADS)).softmax(-1) @ v
    torch.testing.assert_close(found, layer.out_proj(fused.transpose(1, 2).flatten(2)))


def test_a_layer_of_transformers_is_bert_style():
    bert = pytest.importorskip("transformers.models.bert.modeling_bert")
    from transformers import BertConfig

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=DIM, num_attention_heads=HEADS, attention_probs_dropout_prob=0.0
    )
    config._attn_implementation = "eager"
    layer = bert.BertSelfAttention(config).train()
    before = layer(tokens())[0]
    handle = attach(layer, SPANS)
    assert torch.equal(layer(tokens())[0], before)
    handle.rotation.rotate(turn())
    torch.testing.assert_close(
        layer(tokens())[0], plain(layer, tokens(), turn()), atol=1e-6, rtol=0
    )
    assert handle.output.mean_keys.shape == (3, 2, DIM)


def test_padding_that_a_layer_is_not_told_is_told_the_handle():
    layer = Fused().train()
    handle = attach(layer.inner, SPANS)
    handle.padding = torch.zeros(3, LENGTH, dtype=torch.bool)
    handle.padding[2, 5:] = True
    layer(tokens())
    assert handle.output.mean_keys[2, 1].eq(0).all()
    assert handle.output.mean_keys[:2].ne(0).any(dim=-1).all()


class Normalised(BertStyle):
    def __init__(self):
        super().__init__()
        self.q_norm = nn.LayerNorm(DIM)


def refused_layers():
    twice = nn.MultiheadAttention(DIM, 1)
    attach(twice, SPANS)
    return {
        "Linear": nn.Linear(DIM, DIM),
        "add_bias_kv": nn.MultiheadAttention(DIM, 1, add_bias_kv=True),
        "add_zero_attn": nn.MultiheadAttention(DIM, 1, add_zero_attn=True),
        "qk_norm": Normalised(),
        "has a rotation": twice,
    }


@pytest.mark.parametrize("word", refused_layers())
def test_layers_that_cannot_be_rotated_are_refused(word):
    layer = refused_layers()[word]
    with pytest.raises(ValueError, match=rf"attention: got .*{word}"):
        attach(layer, SPANS)


def test_timms_qk_norm_is_refused():
    timm = pytest.importorskip("timm.layers.attention")
    layer = timm.Attention(DIM, HEADS, qk_norm=True, norm_layer=nn.LayerNorm)
    with pytest.raises(ValueError, match="qk_norm"):
        attach(layer, SPANS)


@pytest.mark.parametrize(
    ("spans", "row", "message"),
    [
        ([(0, 4)], 0, "spans: got 1"),
        ([(0, 4), (4, 4)], 0, "spans: stop: got 4"),
        ([(0, 4), (-1, 4)], 0, "spans: start: got -1"),
        ([(0, 4), (4, 8.0)], 0, "spans: stop: got 8.0"),
        ([(0, 4), (3, 8)], 0, "spans: got (0, 4) and (3, 8)"),
        ([(4, 8), (0, 2), (1, 3)], 0, "spans: got (0, 2) and (1, 3)"),
        (SPANS, -1, "row: got -1"),
        (SPANS, 0.0, "row: got 0.0"),
    ],
)
def test_places_that_are_none_are_refused(spans, row, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        attach(nn.MultiheadAttention(DIM, 1), spans, row=row)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_after_a_turn_is_refused_in_words():
    layer = nn.MultiheadAttention(DIM, HEADS, batch_first=True).eval()
    handle = attach(layer, SPANS)
    handle.rotation.rotate(turn())
    nested = torch.nested.nested_tensor([torch.randn(4, DIM), torch.randn(5, DIM)])
    with pytest.raises(ValueError, match="enable_nested_tensor=False"):
        layer(nested, nested, nested)


def test_mean_keys_without_padding_are_means():
    keys = torch.randn(2, 6, 3)
    found = mean_keys(keys, [(0, 2), (2, 6)])
    torch.testing.assert_close(found, torch.stack([keys[:, :2].mean(1), keys[:, 2:].mean(1)], 1))


def test_mean_keys_in_half_precision_do_not_overflow():
    keys = torch.full((1, 4, 2), 40_000.0, dtype=torch.float16)
    assert mean_keys(keys, [(0, 2), (2, 4)]).eq(40_000).all()


def test_the_rotation_stays_a_query_rotation():
    handle = attach(nn.MultiheadAttention(DIM, 1), SPANS)
    assert isinstance(handle.rotation, QueryRotation)
