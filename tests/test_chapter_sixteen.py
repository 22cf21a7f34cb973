"""Chapter 16's promises: each row of its table, and what tools make of a rotation."""

import ast
import copy
import io
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import linear
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from rollingq_core import AttentionFusion, QueryRotation, RollingQ, minimal_rotation
from rollingq_core.air import RunningExpectation
from rollingq_core.attach import attach, mean_keys

ROOT = Path(__file__).parents[1]
CHAPTER = ROOT / "notebooks" / "16_your_own_model.py"
DIM, HEADS, LENGTH = 16, 2, 9
SPANS = {"audio": (1, 5), "visual": (5, 9)}
CLOSE = {"atol": 1e-6, "rtol": 0}


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TOKENS = drawn(3, LENGTH, DIM)
TURN = minimal_rotation(*drawn(2, DIM, seed=2))
PADDED = torch.zeros(3, LENGTH, dtype=torch.bool)
PADDED[0, 3:5] = PADDED[1, 5:] = True


def reference(queries, keys, values, hidden=None):
    """Attention written down query by query and head by head, the first query turned."""
    output = torch.zeros_like(queries)
    width = DIM // HEADS
    for sample in range(len(queries)):
        there = [j for j in range(keys.shape[1]) if hidden is None or not hidden[sample, j]]
        for place in range(queries.shape[1]):
            query = queries[sample, place] @ TURN if place == 0 else queries[sample, place]
            for head in range(HEADS):
                part = slice(head * width, (head + 1) * width)
                logits = [query[part] @ keys[sample, j, part] / math.sqrt(width) for j in there]
                weights = torch.stack(logits).softmax(dim=0)
                output[sample, place, part] = sum(
                    w * values[sample, j, part] for w, j in zip(weights, there, strict=True)
                )
    return output


def multihead():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    nn.init.normal_(layer.in_proj_bias, std=0.3)
    return layer


def mapped(layer, x):
    return linear(x, layer.in_proj_weight, layer.in_proj_bias).chunk(3, dim=-1)


def case_multihead():
    layer = multihead()
    attach(layer, SPANS).rotation.rotate(TURN)
    found = layer(TOKENS, TOKENS, TOKENS, key_padding_mask=PADDED)[0]
    return found, layer.out_proj(reference(*mapped(layer, TOKENS), PADDED))


def case_one_query():
    layer = multihead()
    attach(layer, {"audio": (0, 4), "visual": (4, 8)}).rotation.rotate(TURN)
    asking, rest = TOKENS[:, :1], TOKENS[:, 1:]
    query, (_, keys, values) = mapped(layer, asking)[0], mapped(layer, rest)
    return layer(asking, rest, rest)[0], layer.out_proj(reference(query, keys, values))


def case_encoder_layer():
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(DIM, HEADS, 32, dropout=0.0, batch_first=True).eval()
    attach(block, SPANS).rotation.rotate(TURN)
    mixed = block.self_attn.out_proj(reference(*mapped(block.self_attn, TOKENS), PADDED))
    mixed = block.norm1(TOKENS + mixed)
    expected = block.norm2(mixed + block.linear2(block.linear1(mixed).relu()))
    with torch.no_grad():  # where it would take its fast path
        return block(TOKENS, src_key_padding_mask=PADDED), expected


def vision_attention(**options):
    timm = pytest.importorskip("timm.models.vision_transformer")
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": DIM, "depth": 1, "num_heads": HEADS}
    torch.manual_seed(0)
    layer = timm.VisionTransformer(**sizes, **options).blocks[0].attn
    for one in (layer.qkv, layer.proj):  # which start so small that a fault would not show
        nn.init.xavier_normal_(one.weight)
        nn.init.normal_(one.bias, std=0.3)
    return layer


def case_timm():
    layer = vision_attention().train()
    handle = attach(layer, SPANS)
    handle.rotation.rotate(TURN)
    handle.padding = PADDED
    q, k, v = linear(TOKENS, layer.qkv.weight, layer.qkv.bias).chunk(3, dim=-1)
    found = layer(TOKENS)
    torch.testing.assert_close(handle.output.mean_keys, mean_keys(k, SPANS, PADDED), **CLOSE)
    return found, layer.proj(reference(q, k, v))


class BertStyle(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.query, self.key, self.value = (nn.Linear(DIM, DIM) for _ in range(3))

    def forward(self, x):
        q, k, v = (
            m(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for m in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return mixed.transpose(1, 2).flatten(2)


def case_bert():
    layer = BertStyle()
    maps = [m(TOKENS) for m in (layer.query, layer.key, layer.value)]
    attach(layer, SPANS).rotation.rotate(TURN)
    return layer(TOKENS), reference(*maps)


def case_fusion():
    torch.manual_seed(0)
    layer = AttentionFusion(DIM, 3, HEADS)
    layer.rotation.rotate(TURN)
    query = layer.q_proj(layer.cls).expand(3, -1, -1)
    keys, values = layer.k_proj(TOKENS[:, 1:]), layer.v_proj(TOKENS[:, 1:])
    masks = [PADDED[:, 1:5], PADDED[:, 5:]]
    found = layer([TOKENS[:, 1:5], TOKENS[:, 5:]], masks).logits
    fused = reference(query, keys, values, PADDED[:, 1:])[:, 0]
    return found, layer.head(layer.out_proj(fused))


def case_own_code():
    rotation = QueryRotation(DIM)
    rotation.rotate(TURN)
    return rotation(TOKENS[:, 0]), TOKENS[:, 0] @ TURN


CASES = {
    "nn.MultiheadAttention": case_multihead,
    "nn.MultiheadAttention, one query": case_one_query,
    "nn.TransformerEncoderLayer": case_encoder_layer,
    "timm's Attention (qkv)": case_timm,
    "BERT-style self-attention": case_bert,
    "AttentionFusion": case_fusion,
    "your own code": case_own_code,
}


@pytest.mark.parametrize("name", CASES)
def test_each_row_of_the_table_is_the_textbooks(name):
    found, expected = CASES[name]()
    torch.testing.assert_close(found, expected, **CLOSE)
    assert found.abs().max() > 0.1


def chapter():
    return ast.parse(CHAPTER.read_text(encoding="utf-8"))


def test_the_table_has_these_rows_and_each_is_run_by_a_cell():
    assigned = {
        node.targets[0].id: node.value
        for node in ast.walk(chapter())
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert list(ast.literal_eval(assigned["WRITE"])) == list(CASES)
    compared = [
        node.args[0].value
        for node in ast.walk(chapter())
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "compare"
    ]
    assert sorted(compared) == sorted(CASES)


def test_the_five_lines_are_numbered():
    text = CHAPTER.read_text(encoding="utf-8")
    numbers = re.findall(r"^[^#\n]+\S  # (?:line )?(\d)$", text, flags=re.MULTILINE)
    assert numbers == ["1", "2", "3", "4", "5"]


def test_normed_queries_are_refused():
    with pytest.raises(ValueError, match="qk_norm"):
        attach(vision_attention(qk_norm=True), SPANS)


# What tools make of it

KINDS = {
    "multihead": lambda: (layer := multihead(), layer),
    "block": lambda: (
        layer := nn.TransformerEncoderLayer(DIM, HEADS, 32, dropout=0.0, batch_first=True),
        layer.self_attn,
    ),
    "fused": lambda: (layer := vision_attention(), layer),
    "separate": lambda: (layer := BertStyle(), layer),
}


class Around(nn.Module):
    """A model around a layer of some kind."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.layer, _ = KINDS[kind]()

    @property
    def attention(self):
        return getattr(self.layer, "self_attn", self.layer)

    def forward(self, x):
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.layer(x, x, x)[0]
        return self.layer(x)


@pytest.fixture(params=KINDS)
def model(request):
    return Around(request.param)


def test_a_file_holds_the_turn_and_the_schedule(model):
    fresh = copy.deepcopy(model)
    rolling = RollingQ(attach(model.layer, SPANS), rho=3, beta=0, max_rotations=1)
    model.train()(TOKENS)
    rolling.observe(rolling_output(model))
    assert rolling.end_epoch().count == 1
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    with pytest.raises(RuntimeError, match=r"Unexpected key.*rotation.matrix"):
        copy.deepcopy(fresh).load_state_dict(state)
    old = fresh.state_dict()
    again = RollingQ(attach(fresh.layer, SPANS), rho=3, beta=0, max_rotations=1)
    told = fresh.load_state_dict(old, strict=False)
    # An older file lacks the turn; what QueryRotation has added later may be missing silently.
    assert {name.split(".")[-1] for name in told.missing_keys} >= {"matrix", "count"}
    fresh.load_state_dict(state)
    assert torch.equal(fresh.eval()(TOKENS), model.eval()(TOKENS))
    with torch.no_grad():
        assert torch.equal(fresh(TOKENS), model(TOKENS))
    assert again.epoch == 1
    fresh.train()(TOKENS)
    again.observe(rolling_output(fresh))
    assert again.end_epoch() is None  # its one turn is used up


def rolling_output(model):
    """Return what the handle of a model's attention has seen, wherever the handle is."""
    layer = model.attention
    if isinstance(layer, nn.MultiheadAttention):
        return layer.attached.output
    hooked = layer.qkv if hasattr(layer, "qkv") else layer.query
    (hook,) = hooked._forward_hooks.values()
    return hook.__self__.output


def averaged(model, weight, **options):
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(weight), **options)


@pytest.mark.parametrize("graph", [True, False])
def test_an_average_of_weights_turns_with_the_model(model, graph):
    model.eval()
    handle = attach(model.layer, SPANS)
    average = averaged(model, 0.5).eval()
    for seed in (2, 3):
        handle.rotation.rotate(minimal_rotation(*drawn(2, DIM, seed=seed)))
        average.update_parameters(model)
        # The weights have not moved, so that the average is the model itself.
        with torch.set_grad_enabled(graph):
            assert torch.equal(average(TOKENS), model(TOKENS))


def test_an_average_with_its_buffers_is_no_rotation(model):
    handle = attach(model.layer, SPANS)
    average = averaged(model, 0.5, use_buffers=True)
    average.update_parameters(model)
    handle.rotation.rotate(TURN)
    average.update_parameters(model)
    matrix = average.module.attention.rotation.matrix
    assert (matrix @ matrix.mT - torch.eye(DIM)).abs().max() > 0.01


def test_whatever_writes_into_the_buffers_is_noticed(model):
    model.eval()
    other = copy.deepcopy(model)
    for one in (model, other):
        attach(one.layer, SPANS)
    with torch.no_grad():
        before = other(TOKENS)
    model.attention.rotation.rotate(TURN)
    # As a broadcast does, and an average of one's own.
    for mine, theirs in zip(other.state_dict().values(), model.state_dict().values(), strict=True):
        mine.copy_(theirs)
    with torch.no_grad():
        assert torch.equal(other(TOKENS), model(TOKENS))
        assert not torch.allclose(other(TOKENS)[:, 0], before[:, 0], atol=1e-3)
        other.attention.rotation.matrix.copy_(torch.eye(DIM))
        other.attention.rotation.count.zero_()
        torch.testing.assert_close(other(TOKENS), before, **CLOSE)


class Adapted(nn.Module):
    """As adapters of libraries: no subclass of nn.Linear, with its ``out_features``."""

    def __init__(self, base):
        super().__init__()
        self.base, self.out_features = base, base.out_features
        self.down = nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def test_an_adapter_that_was_there_before_is_turned_too():
    layer = BertStyle()
    layer.query, layer.key = Adapted(layer.query), Adapted(layer.key)
    maps = [m(TOKENS) for m in (layer.query, layer.key, layer.value)]
    handle = attach(layer.train(), SPANS)
    handle.rotation.rotate(TURN)
    torch.testing.assert_close(layer(TOKENS), reference(*maps), **CLOSE)
    torch.testing.assert_close(handle.output.query, maps[0][:, 0] @ TURN, **CLOSE)
    torch.testing.assert_close(handle.output.mean_keys, mean_keys(maps[1], SPANS), **CLOSE)


def test_an_adapter_around_a_fused_map_is_turned_too():
    layer = vision_attention()
    layer.qkv = Adapted(layer.qkv)
    maps = layer.qkv(TOKENS).chunk(3, dim=-1)
    attach(layer, SPANS).rotation.rotate(TURN)
    torch.testing.assert_close(layer(TOKENS), layer.proj(reference(*maps)), **CLOSE)


def test_an_adapter_that_comes_later_is_not_turned():
    layer = BertStyle()
    base = layer.query
    attach(layer, SPANS).rotation.rotate(TURN)
    layer.query = Adapted(base)
    added = layer.query.up(layer.query.down(TOKENS))
    plain = linear(TOKENS, base.weight, base.bias)
    rest = layer.key(TOKENS), layer.value(TOKENS)
    assert (layer(TOKENS) - reference(plain + added, *rest)).abs().max() > 0.01


def test_adapters_of_the_books_layer_may_come_at_any_time():
    torch.manual_seed(0)
    layer = AttentionFusion(DIM, 3, HEADS)
    layer.rotation.rotate(TURN)
    layer.q_proj = Adapted(layer.q_proj)
    query = layer.q_proj(layer.cls).expand(3, -1, -1)
    keys, values = layer.k_proj(TOKENS[:, 1:]), layer.v_proj(TOKENS[:, 1:])
    expected = layer.head(layer.out_proj(reference(query, keys, values)[:, 0]))
    found = layer([TOKENS[:, 1:5], TOKENS[:, 5:]]).logits
    torch.testing.assert_close(found, expected, **CLOSE)
    with pytest.raises(ValueError, match="linear"):
        layer.rotation.fold_into(layer.q_proj)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_neither_gradients_nor_what_is_seen(model, reentrant):
    handle = attach(model.train().layer, SPANS)
    handle.rotation.rotate(TURN)
    found = []
    for run in (model, lambda x: checkpoint(model, x, use_reentrant=reentrant)):
        model.zero_grad()
        x = TOKENS.clone().requires_grad_()
        run(x).square().sum().backward()
        found.append([x.grad, *(p.grad.clone() for p in model.parameters()), *handle.output])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_each_batch_twice_is_the_same_expectation():
    once, twice = RunningExpectation(), RunningExpectation()
    for seed in range(3):
        query, keys = drawn(4 + seed, DIM, seed=seed), drawn(4 + seed, 2, DIM, seed=10 + seed)
        once.update(query, keys)
        twice.update(query, keys)
        twice.update(query, keys)
    one, other = once.compute(), twice.compute()
    assert one.air == pytest.approx(other.air, abs=1e-6)
    torch.testing.assert_close(one.query, other.query)
    torch.testing.assert_close(one.mean_keys, other.mean_keys)


def test_export_takes_the_turn_along(model):
    attach(model.eval().layer, SPANS).rotation.rotate(TURN)
    program = torch.export.export(model, (TOKENS,)).module()
    torch.testing.assert_close(program(TOKENS), model(TOKENS), atol=1e-6, rtol=1e-5)


# Two processes, each on its part of a batch; the second one's model starts elsewhere.
JOB = """
import sys
import torch
from torch import distributed, nn
from rollingq_core import RollingQ, attach

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
torch.manual_seed(rank)
layer = nn.MultiheadAttention(16, 2, batch_first=True)
handle = attach(layer, {"audio": (1, 5), "visual": (5, 9)})
trained = nn.parallel.DistributedDataParallel(layer)
rolling = RollingQ(handle, rho=3, beta=0, max_rotations=2)
tokens = torch.randn(7, 9, 16, generator=torch.Generator().manual_seed(1))
part = tokens[:3] if rank == 0 else tokens[3:]
for epoch in range(2):
    trained(part, part, part)[0].square().sum().backward()
    rolling.observe(handle.output)
    event = rolling.end_epoch()
torch.save({"layer": layer.state_dict(), "air": event.air}, f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_turn_as_one(tmp_path):
    job = tmp_path / "job.py"
    job.write_text(JOB)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, job, str(rank), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, value in found[0]["layer"].items():
        assert torch.equal(value, found[1]["layer"][name]), name
    assert int(found[0]["layer"]["rotation.count"]) == 2

    torch.manual_seed(0)
    layer = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    handle = attach(layer, SPANS)
    rolling = RollingQ(handle, rho=3, beta=0, max_rotations=2)
    tokens = drawn(7, LENGTH, DIM)
    for _ in range(2):
        layer(tokens, tokens, tokens)
        rolling.observe(handle.output)
        event = rolling.end_epoch()
    assert found[0]["air"] == pytest.approx(event.air, abs=1e-5)
    torch.testing.assert_close(
        found[0]["layer"]["rotation.matrix"], layer.rotation.matrix, atol=1e-5, rtol=0
    )


def test_a_broadcast_from_a_process_that_loaded_is_noticed(model):
    """As DistributedDataParallel's first broadcast: values come, and no hook is called."""
    handle = attach(model.train().layer, SPANS)
    turned = copy.deepcopy(model)
    turned.attention.rotation.rotate(TURN)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(dict(turned.named_buffers())[name])
    assert torch.equal(model(TOKENS), turned(TOKENS))
    torch.testing.assert_close(handle.output.query, rolling_output(turned).query)


def test_the_last_of_several_layers_turns():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(DIM, HEADS, 32, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    with torch.no_grad():
        first = encoder.layers[0](TOKENS, src_key_padding_mask=PADDED)
    last = encoder.layers[-1]
    attach(last, SPANS).rotation.rotate(TURN)
    mixed = last.self_attn.out_proj(reference(*mapped(last.self_attn, first), PADDED))
    mixed = last.norm1(first + mixed)
    expected = last.norm2(mixed + last.linear2(last.linear1(mixed).relu()))
    with torch.no_grad():
        found = encoder(TOKENS, src_key_padding_mask=PADDED)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
