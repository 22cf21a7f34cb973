"""Key and value projections that are no plain linear map are called, not read."""

import math

import pytest
import torch
from torch import nn

import rollingq_core.fusion.attention as attention_module
from rollingq_core import AttentionFusion, minimal_rotation
from rollingq_core._linear import is_plain_linear
from tests.adapted import KINDS, adapted
from tests.reference import relative_error


def example(dtype=torch.float64, masked=False, **options):
    torch.manual_seed(3)
    layer = AttentionFusion(8, 4, **options).to(dtype).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    layer.rotation.rotate(minimal_rotation(*torch.randn(2, 8, dtype=dtype)))
    tokens = [torch.randn(3, length, 8, dtype=dtype) for length in (5, 4)]
    masks = [torch.rand(3, 5) < 0.4, torch.rand(3, 4) < 0.4] if masked else None
    if masked:
        masks[0][0], masks[1][:, 0] = True, False
    return layer, tokens, masks


def textbook(layer, tokens, masks=None, kept=1.0):
    """Attention with the modules' own outputs as keys and values: no weight is read."""
    batch, heads = tokens[0].shape[0], layer.num_heads
    hidden = torch.cat(masks, 1) if masks else torch.zeros(batch, sum(z.shape[1] for z in tokens))
    rows = [*tokens, layer.cls.expand(batch, 1, -1)] if layer.cls_self_key else tokens
    keys = [layer.k_proj(z) for z in rows]
    hidden = nn.functional.pad(hidden.bool(), (0, int(layer.cls_self_key)))
    query = layer.rotation(layer.q_proj(layer.cls[0]))

    def split(x):
        return x.unflatten(-1, (heads, -1)).transpose(-3, -2)

    logits = split(query) @ split(torch.cat(keys, 1)).mT / math.sqrt(layer.dim // heads)
    if layer.mode == "uniform":
        logits = 0 * logits
    row = logits.masked_fill(hidden[:, None, None], -math.inf).softmax(-1)
    values = split(torch.cat([layer.v_proj(z) for z in rows], 1))
    fused = layer.out_proj(((row.squeeze(2) * kept).unsqueeze(2) @ values).flatten(1))
    means, start = [], 0
    for key, z in zip(keys, tokens, strict=False):
        shown = (~hidden[:, start : (start := start + z.shape[1])]).to(z.dtype)
        mean = (shown.unsqueeze(1) @ key).squeeze(1) / shown.sum(1, keepdim=True).clamp(min=1)
        means.append(mean)
    attention = row.squeeze(2)[..., :start]
    return layer.head(fused), fused, attention, torch.stack(means, 1)


def assert_textbook(layer, tokens, masks=None, tolerance=1e-12, kept=1.0):
    output = layer(tokens, masks)
    found = (output.logits, output.fused, output.attention, output.mean_keys)
    for value, reference in zip(found, textbook(layer, tokens, masks, kept), strict=True):
        assert relative_error(value, reference) < tolerance
    return output


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["k_proj", "v_proj"])
@pytest.mark.parametrize(
    "options", [{}, {"num_heads": 2, "cls_self_key": True}, {"mode": "uniform"}], ids=str
)
def test_what_the_module_returns_is_what_attention_reads(kind, place, options):
    layer, tokens, masks = example(masked=bool(options), **options)
    before = layer(tokens, masks)
    setattr(layer, place, adapted(kind, getattr(layer, place)))
    assert not is_plain_linear(getattr(layer, place))
    output = assert_textbook(layer, tokens, masks)
    # And it shows: none of these kinds is the layer that it was made of.
    assert relative_error(output.mean_keys, before.mean_keys) > 1e-3 or place == "v_proj"
    # (Softmax does not see what shifts all keys alike, nor uniform attention any key.)
    shift = kind in ("parametrised bias", "own forward") or options.get("mode") == "uniform"
    changed = relative_error(output.fused, before.fused) > 1e-3
    assert changed or (place == "k_proj" and shift)


@pytest.mark.parametrize("place", ["k_proj", "v_proj"])
def test_a_quantised_projection(place):
    layer, tokens, _ = example(torch.float32)
    setattr(layer, place, adapted("quantised", getattr(layer, place)))
    assert_textbook(layer, tokens, tolerance=1e-5)


@pytest.mark.parametrize("place", ["k_proj", "v_proj"])
def test_an_adapter_learns_as_in_the_textbook(place):
    layer, tokens, masks = example(masked=True, num_heads=2)
    setattr(layer, place, adapted("adapter", getattr(layer, place)))
    names, parameters = zip(*layer.named_parameters(), strict=True)
    weights = torch.randn(3, 4, dtype=torch.float64)
    found = torch.autograd.grad((layer(tokens, masks).logits * weights).sum(), parameters)
    logits = textbook(layer, tokens, masks)[0]
    expected = torch.autograd.grad((logits * weights).sum(), parameters)
    for name, value, reference in zip(names, found, expected, strict=True):
        torch.testing.assert_close(value, reference, msg=name)


def test_dropout_drops_the_values_and_their_bias_alike(monkeypatch):
    layer, tokens, _ = example(num_heads=2, attention_dropout=0.5)
    layer.train()
    kept = (torch.rand(3, 2, 9) < 0.5).double() * 2
    monkeypatch.setattr(attention_module, "dropout", lambda row, p, training: row * kept)
    assert_textbook(layer, tokens, kept=kept)
    layer.v_proj = adapted("adapter", layer.v_proj).train()
    assert_textbook(layer, tokens, kept=kept)


def test_an_adapter_with_dropout_gives_the_keys_that_attention_used():
    layer, tokens, _ = example()
    seen = []
    layer.k_proj = nn.Sequential(layer.k_proj, nn.Dropout(0.5))
    layer.k_proj.register_forward_hook(lambda module, inputs, output: seen.append(output))
    means = layer.train()(tokens).mean_keys
    assert len(seen) == 2
    torch.testing.assert_close(means, torch.stack([keys.mean(1) for keys in seen], 1))


def test_a_plain_layer_is_never_called_on_a_token(monkeypatch):
    layer, tokens, _ = example()
    forms = []
    forward = nn.Linear.forward

    def spy(self, x):
        forms.append(tuple(x.shape))
        return forward(self, x)

    monkeypatch.setattr(nn.Linear, "forward", spy)
    layer(tokens)
    assert (3, 5, 8) not in forms
    # One mean key a modality goes through k_proj.
    assert forms.count((3, 2, 8)) == 1


def test_a_plain_layer_stays_plain_through_what_leaves_it_linear():
    linear = nn.Linear(4, 4)
    assert is_plain_linear(linear)
    assert is_plain_linear(linear.half().requires_grad_(False).eval())
    assert is_plain_linear(nn.Linear(4, 4, bias=False))
    handle = linear.register_forward_hook(lambda *_: None)
    assert not is_plain_linear(linear)
    handle.remove()
    assert is_plain_linear(linear)
    linear.register_full_backward_hook(lambda *_: None)
    assert not is_plain_linear(linear)
    assert not is_plain_linear(nn.Identity())
    assert not is_plain_linear(nn.Bilinear(4, 4, 4))


def test_a_weight_that_is_no_ordinary_tensor_is_not_read():
    class Packed(torch.Tensor):
        pass

    linear = nn.Linear(4, 4)
    linear.weight = nn.Parameter(linear.weight.detach().as_subclass(Packed))
    assert not is_plain_linear(linear)
    linear = nn.Linear(4, 4)
    linear.weight = nn.Parameter(linear.weight.detach().to_sparse())
    assert not is_plain_linear(linear)
