"""The fusion layer: pencil examples, the textbook oracle, options and errors."""

import io
import math

import pytest
import torch
from torch import nn

import rollingq_core.fusion.attention as attention_module
from rollingq_core import AttentionFusion, FusionOutput, minimal_rotation
from tests.reference import gradients, relative_error, textbook_twin


def toy_layer(**options) -> AttentionFusion:
    """d = 2, identity maps, cls = [1, 0]: the numbers can be checked with a pencil."""
    layer = AttentionFusion(2, 2, **options)
    with torch.no_grad():
        layer.cls.copy_(torch.tensor([[[1.0, 0.0]]]))
        for linear in (layer.q_proj, layer.k_proj, layer.v_proj, layer.out_proj):
            linear.weight.copy_(torch.eye(2))
    return layer


TOY = [
    torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]),
    torch.tensor([[[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]]),
]


def flat(value: torch.Tensor) -> list[float]:
    return value.flatten().tolist()


@torch.no_grad()
def test_toy_without_a_class_token_key():
    output = toy_layer()(TOY)
    row = [0.309669, 0.152688, 0.309669, 0.075286, 0.152688]
    assert flat(output.attention) == pytest.approx(row, abs=1e-5)
    assert flat(output.share) == pytest.approx([0.462357, 1 - 0.462357], abs=1e-5)
    assert flat(output.fused) == pytest.approx([0.544052, 0.462357], abs=1e-5)
    assert flat(output.mean_keys) == pytest.approx([0.5, 0.5, 0, 1 / 3], abs=1e-5)
    assert flat(output.query) == [1, 0]


@torch.no_grad()
def test_toy_with_a_class_token_key():
    output = toy_layer(cls_self_key=True)(TOY)
    assert 1 - float(output.attention.sum()) == pytest.approx(0.236448, abs=1e-5)
    assert flat(output.share) == pytest.approx([0.353034, 0.410518], abs=1e-5)
    assert flat(output.fused) == pytest.approx([0.651860, 0.353034], abs=1e-5)


@pytest.mark.parametrize(
    ("masked", "cls_mass", "row"),
    [
        (1, 0.401112, [0.401112, 0.197776, 0, 0, 0]),
        (0, 0.365472, [0, 0, 0.365472, 0.088853, 0.180203]),
    ],
)
@torch.no_grad()
def test_toy_with_one_modality_masked(masked, cls_mass, row):
    masks = [None, None]
    masks[masked] = torch.ones(TOY[masked].shape[:2], dtype=torch.bool)
    output = toy_layer(cls_self_key=True)(TOY, masks)
    assert flat(output.attention) == pytest.approx(row, abs=1e-5)
    assert 1 - float(output.attention.sum()) == pytest.approx(cls_mass, abs=1e-5)
    assert float(output.share[0, masked]) == 0
    assert torch.equal(output.mean_keys[0, masked], torch.zeros(2))


def example(modalities=2, dim=8, batch=3, masked=False, dtype=torch.float64, **options):
    """A layer with every weight and bias drawn, its rotation too, and tokens for it."""
    torch.manual_seed(modalities + 10 * masked)
    layer = AttentionFusion(dim, 4, **options).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    layer.rotation.rotate(minimal_rotation(*torch.randn(2, dim, dtype=dtype)))
    lengths = (5, 3, 4)[:modalities]
    tokens = [
        torch.randn(batch, length, dim, dtype=dtype, requires_grad=True) for length in lengths
    ]
    masks = None
    if masked:
        masks = [torch.rand(batch, length) < 0.5 for length in lengths]
        # One sample without any token in the first modality, none without any token at all.
        masks[0][0], masks[1][:, 0] = True, False
        masks[-1] = masks[-1] if modalities == 2 else None
    return layer, tokens, masks


OPTIONS = [
    {"num_heads": heads, "cls_self_key": self_key, "bias": bias, "output_projection": projection}
    for heads in (1, 2, 4)
    for self_key in (False, True)
    for bias, projection in ((True, True), (False, True), (True, False))
]


def assert_same(layer, tokens, output, twin, expected):
    for name, value, reference in zip(output._fields, output, expected, strict=True):
        assert relative_error(value, reference) < 1e-9, name
    reference = gradients(twin, tokens, expected)
    for name, value in gradients(layer, tokens, output).items():
        if name == "k_proj.bias":
            # Exactly 0 in mathematics, since softmax does not see a shift: only rounding is left.
            assert value.abs().max() < 1e-12
            assert reference[name].abs().max() < 1e-12
        else:
            assert relative_error(value, reference[name]) < 1e-9, name


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_outputs_and_gradients_are_the_textbooks(options, modalities, masked):
    layer, tokens, masks = example(modalities, masked=masked, **options)
    twin = textbook_twin(layer)
    assert_same(layer, tokens, layer(tokens, masks), twin, twin(tokens, masks))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("self_key", [False, True])
def test_attention_dropout_is_the_textbooks_with_the_same_mask(monkeypatch, heads, self_key):
    layer, tokens, masks = example(
        masked=True, num_heads=heads, cls_self_key=self_key, attention_dropout=0.2
    )
    twin = textbook_twin(layer)
    kept = (torch.rand(3, heads, 9) < 0.8).double() / 0.8
    # The textbook's first key is the class token, the layer's is its last or none.
    own = torch.cat([kept[..., 1:], kept[..., :1]], dim=-1) if self_key else kept[..., 1:]
    monkeypatch.setattr(attention_module, "dropout", lambda row, p, training: row * own)
    assert_same(layer, tokens, layer(tokens, masks), twin, twin(tokens, masks, kept))


def test_dropout_acts_only_while_training():
    layer, tokens, _ = example(attention_dropout=0.5, output_dropout=0.5)
    plain = textbook_twin(layer)(tokens)
    assert not torch.allclose(layer(tokens).logits, plain.logits)
    layer.attention_dropout = 0.0
    dropped = layer(tokens).fused
    assert 0 < (dropped == 0).sum() < dropped.numel()
    layer.eval()
    layer.attention_dropout = 0.5
    torch.testing.assert_close(layer(tokens).logits, plain.logits)


def test_padded_tokens_change_nothing():
    layer, tokens, masks = example(masked=True, num_heads=2)
    other = [
        z if mask is None else torch.where(mask.unsqueeze(-1), 100.0, z)
        for z, mask in zip(tokens, masks, strict=True)
    ]
    for value, reference in zip(layer(other, masks), layer(tokens, masks), strict=True):
        torch.testing.assert_close(value, reference)


def test_permuting_the_tokens_of_a_modality_changes_no_logit():
    layer, (a, v), _ = example()
    torch.testing.assert_close(layer([a.flip(1), v]).logits, layer([a, v]).logits)


@pytest.mark.parametrize("self_key", [False, True])
def test_uniform_attention_pools_the_unpadded_tokens(self_key):
    layer, tokens, masks = example(masked=True, mode="uniform", num_heads=2, cls_self_key=self_key)
    output = layer(tokens, masks)
    hidden = torch.cat(masks, dim=1)
    mass = (~hidden).double() / ((~hidden).sum(1, keepdim=True) + self_key)
    torch.testing.assert_close(output.attention, mass.unsqueeze(1).expand(-1, 2, -1))
    pooled = (mass.unsqueeze(1) @ torch.cat(tokens, dim=1)).squeeze(1)
    if self_key:
        pooled = pooled + layer.cls[0] * (1 - mass.sum(1, keepdim=True))
    torch.testing.assert_close(output.fused, layer.out_proj(layer.v_proj(pooled)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    layer, tokens, _ = example(dtype=dtype)
    assert {value.dtype for value in layer(tokens)} == {dtype}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
def test_no_rotation_is_bit_identical_to_none(dtype, autocast):
    torch.manual_seed(0)
    layer = AttentionFusion(16, 4, num_heads=2).to(dtype)
    tokens = [torch.randn(3, 5, 16, dtype=dtype), torch.randn(3, 4, 16, dtype=dtype)]

    def run():
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = layer(tokens)
        output.logits.float().square().sum().backward()
        return [*output, *(parameter.grad.clone() for parameter in layer.parameters())]

    with_identity = run()
    layer.rotation = nn.Identity()
    for value, reference in zip(with_identity, run(), strict=True):
        assert value.dtype == reference.dtype
        assert torch.equal(value, reference)


def test_saving_and_loading_keeps_outputs_and_count():
    layer, tokens, _ = example(dtype=torch.float32)
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    fresh = AttentionFusion(8, 4)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert fresh.rotation.count == 1
    for value, reference in zip(fresh(tokens), layer(tokens), strict=True):
        assert torch.equal(value, reference)


@pytest.mark.parametrize("bias", [True, False])
def test_folding_the_rotation_away_keeps_the_outputs(bias):
    layer, tokens, _ = example(bias=bias)
    before = layer(tokens)
    assert layer.rotation.fold_into(layer.q_proj) is layer.q_proj
    assert torch.equal(layer.rotation.matrix, torch.eye(8, dtype=torch.float64))
    assert layer.rotation.count == 1
    for value, reference in zip(layer(tokens), before, strict=True):
        torch.testing.assert_close(value, reference)


def test_query_and_keys_are_outside_the_graph():
    layer, tokens, _ = example()
    output = layer(tokens)
    assert isinstance(output, FusionOutput)
    assert not output.query.requires_grad
    assert not output.mean_keys.requires_grad


def test_every_parameter_gets_a_gradient():
    # Distributed training waits for each of them.
    layer, tokens, _ = example()
    layer(tokens).logits.sum().backward()
    assert [name for name, p in layer.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("std", "largest"), [(0.02, 0.04), (1.0, 2.0)])
def test_cls_std_sets_the_class_tokens_spread(std, largest):
    torch.manual_seed(0)
    cls = AttentionFusion(512, 2, cls_std=std).cls.detach()
    assert cls.abs().max() <= largest
    # A normal cut at two deviations has 0.88 of its deviation.
    assert float(cls.std()) == pytest.approx(0.88 * std, rel=0.1)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"dim": 1}, "dim"),
        ({"dim": math.nan}, "dim"),
        ({"num_classes": 0}, "num_classes"),
        ({"num_heads": 0}, "num_heads"),
        ({"num_heads": 3}, "num_heads"),
        ({"cls_std": 0.0}, "cls_std"),
        ({"attention_dropout": 1.5}, "attention_dropout"),
        ({"output_dropout": -0.1}, "output_dropout"),
        ({"mode": "hard"}, "mode"),
    ],
)
def test_an_option_out_of_range_is_named(options, name):
    with pytest.raises(ValueError, match=rf"^{name}: got .*expected"):
        AttentionFusion(**{"dim": 8, "num_classes": 4, **options})


A, V = torch.ones(2, 3, 8), torch.ones(2, 4, 8)
NO_MASK = torch.zeros(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("tokens", "masks", "name"),
    [
        (A, None, "tokens"),
        ([A], None, "tokens"),
        ([A[0], V], None, r"tokens\[0\]"),
        ([A, V[..., :7]], None, r"tokens\[1\]"),
        ([A, V[:1]], None, r"tokens\[1\]"),
        ([A, V[:, :0]], None, r"tokens\[1\]"),
        ([A[:0], V[:0]], None, r"tokens\[0\]"),
        ([A, V * math.nan], None, r"tokens\[1\]"),
        ([A * math.inf, V], None, r"tokens\[0\]"),
        ([A, V], [NO_MASK], "key_padding_masks"),
        ([A, V], [None, NO_MASK], r"key_padding_masks\[1\]"),
        ([A, V], [NO_MASK.float(), None], r"key_padding_masks\[0\]"),
        ([A, V], [~NO_MASK, ~torch.zeros(2, 4, dtype=torch.bool)], "key_padding_masks"),
        ({"audio": A, "visual": V}, None, "tokens"),
        (torch.stack([A, A]), None, "tokens"),
        (None, None, "tokens"),
        (A.numpy(), None, "tokens"),
        ([A.tolist(), V], None, r"tokens\[0\]"),
        ([A, V.numpy()], None, r"tokens\[1\]"),
        ([A, None], None, r"tokens\[1\]"),
        ([A.long(), V.long()], None, r"tokens\[0\]"),
        ([A, V.bool()], None, r"tokens\[1\]"),
        ([A, V.double()], None, r"tokens\[1\]"),
        ([A.half(), V.half()], None, r"tokens\[0\]"),
        ([A, V.to("meta")], None, r"tokens\[1\]"),
        ([A, V], True, "key_padding_masks"),
        ([A, V], [NO_MASK.tolist(), None], r"key_padding_masks\[0\]"),
        ([A, V], [NO_MASK.numpy(), None], r"key_padding_masks\[0\]"),
        ([A, V], [NO_MASK.long(), None], r"key_padding_masks\[0\]"),
        ([A, V], [NO_MASK.to("meta"), None], r"key_padding_masks\[0\]"),
    ],
)
def test_bad_tokens_are_named(tokens, masks, name):
    with pytest.raises(ValueError, match=rf"^{name}: got .*expected"):
        AttentionFusion(8, 4)(tokens, masks)


def test_modalities_of_mixed_precision_are_taken_under_autocast():
    layer = AttentionFusion(8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer([A, V.bfloat16()])
    assert output.logits.isfinite().all()


def test_the_share_is_that_of_the_modalities_in_their_order():
    layer, tokens, _ = example(cls_self_key=True)
    output = layer(tokens)
    expected = [output.attention[:, 0, :5].sum(1), output.attention[:, 0, 5:].sum(1)]
    torch.testing.assert_close(output.share, torch.stack(expected, dim=1))
    # The class token's own mass is nobody's.
    assert (output.share.sum(1) < 1).all()
    assert output.share.sum(1).min() < 1 - 1e-3
    means = torch.stack([layer.k_proj(z).mean(1) for z in tokens], dim=1)
    torch.testing.assert_close(output.mean_keys, means)
