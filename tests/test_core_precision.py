"""Low precision and autocast change nothing that the method computes for itself."""

import copy
import io
import pickle

import pytest
import torch

from rollingq_core import (
    AttentionFusion,
    QueryRotation,
    RollingQ,
    attention_imbalance_rate,
    minimal_rotation,
    rebalance_anchor,
)
from rollingq_core.rotation import plane_rotation

HALVES = [torch.bfloat16, torch.float16]


def run(autocast: bool, rotation: str, dtype=torch.float32):
    """Observe, end the epoch and fold, on the same numbers."""
    torch.manual_seed(0)
    layer = AttentionFusion(8, 4, cls_std=1.0).to(dtype)
    query, keys = torch.randn(8, dtype=dtype), torch.randn(6, 2, 8, dtype=dtype)
    rolling = RollingQ(layer, rho=2.0, beta=0.0, max_rotations=2, rotation=rotation)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        rolling.observe(query=query, mean_keys=keys)
        event = rolling.end_epoch()
        layer.rotation.rotate(minimal_rotation(query, keys[0, 0]))
        matrix = layer.rotation.matrix.clone()
        layer.rotation.fold_into(layer.q_proj)
        anchor = rebalance_anchor(query, *keys[0], 0.3)
        air = attention_imbalance_rate(query, keys[:, 0], keys[:, 1])
    return event, matrix, layer.q_proj.weight, anchor, air


@pytest.mark.parametrize("rotation", ["minimal", "svd", "random_matched", "random_free"])
def test_autocast_changes_no_bit(rotation):
    with_autocast, without = run(True, rotation), run(False, rotation)
    assert with_autocast[0] == without[0]
    for value, reference in zip(with_autocast[1:], without[1:], strict=True):
        assert value.dtype == reference.dtype == torch.float32
        assert torch.equal(value, reference)


def turned(dim=6):
    torch.manual_seed(0)
    rotation = QueryRotation(dim)
    rotation.rotate(minimal_rotation(*torch.randn(2, dim)))
    return rotation


def through_a_file(module):
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize(
    "cast",
    [
        lambda m: m.half(),
        lambda m: m.bfloat16(),
        lambda m: m.to(torch.bfloat16),
        lambda m: m.to("cpu", torch.float16),
        lambda m: m.to(torch.zeros(1, dtype=torch.bfloat16)),
        lambda m: m.half().float(),
        lambda m: m.type(torch.float16),
    ],
)
def test_a_cast_layer_keeps_every_bit_of_the_rotation(cast):
    exact = turned().matrix
    alone, inside = turned(), AttentionFusion(6, 2)
    inside.rotation = turned()
    for module in (cast(alone), cast(inside).rotation):
        for copied in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert copied.matrix.dtype == torch.float32
            assert torch.equal(copied.matrix, exact)
            assert copied.count.dtype == torch.int64
        again = QueryRotation(6).half()
        again.load_state_dict(through_a_file(module))
        assert torch.equal(again.matrix, exact)


def test_a_wider_cast_widens_the_rotation_and_half_does_not_narrow_it_again():
    rotation = turned().double()
    assert rotation.matrix.dtype == torch.float64
    assert rotation.half().matrix.dtype == torch.float32
    assert torch.equal(rotation.matrix, turned().matrix)


def test_an_assigned_state_in_half_precision_is_widened():
    state = turned().state_dict()
    state["matrix"] = state["matrix"].half()
    rotation = QueryRotation(6)
    rotation.load_state_dict(state, assign=True)
    assert rotation.matrix.dtype == torch.float32
    assert state["matrix"].dtype == torch.float16


def test_a_layer_is_moved_to_a_device_as_any():
    rotation = turned().to("meta", torch.float16)
    assert rotation.matrix.device.type == rotation.count.device.type == "meta"
    assert rotation.matrix.dtype == torch.float32
    assert rotation.to_empty(device="cpu").matrix.dtype == torch.float32


@pytest.mark.parametrize("dtype", HALVES)
def test_rotating_a_cast_layer_is_exact(dtype):
    query, target = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    rotation, exact = QueryRotation(16).to(dtype), QueryRotation(16)
    for _ in range(20):
        for module in (rotation, exact):
            module.rotate(plane_rotation(query, target))
    assert torch.equal(rotation.matrix, exact.matrix)
    assert rotation(query.to(dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_mean_over_many_large_tokens_does_not_overflow(dtype, masked, autocast):
    torch.manual_seed(0)
    layer = AttentionFusion(8, 4, num_heads=2, cls_std=1.0)
    tokens = [(torch.randn(2, length, 8) + 300).to(dtype) for length in (2000, 3)]
    masks = [torch.rand(2, 2000) < 0.3, None] if masked else None
    expected = layer([z.float() for z in tokens], masks)
    if autocast:
        with torch.autocast("cpu", dtype):
            output = layer(tokens, masks)
    else:
        output = layer.to(dtype)(tokens, masks)
    assert all(value.isfinite().all() for value in output)
    error = (output.mean_keys.float() - expected.mean_keys).norm()
    assert error < 4 * torch.finfo(dtype).eps * expected.mean_keys.norm()
    torch.testing.assert_close(output.share.float().sum(1), torch.ones(2), atol=0.01, rtol=0)


@pytest.mark.parametrize("dtype", HALVES)
def test_the_imbalance_of_many_samples_in_half_precision(dtype):
    torch.manual_seed(0)
    key = torch.randn(8).to(dtype)
    air = attention_imbalance_rate(key, key.expand(70000, 8), -key.expand(70000, 8))
    assert air.dtype == dtype
    assert float(air) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_half_precision_run_rotates_to_the_anchor(dtype):
    torch.manual_seed(0)
    layer = AttentionFusion(16, 4, cls_std=1.0)
    tokens = [torch.randn(4, 5, 16) + 1, torch.randn(4, 3, 16) - 1]
    events = []
    for cast in (torch.float32, dtype):
        own = copy.deepcopy(layer).to(cast)
        rolling = RollingQ(own, rho=2.0, beta=0.0, max_rotations=1)
        rolling.observe(own([z.to(cast) for z in tokens]))
        events.append(rolling.end_epoch())
        rolling.observe(own([z.to(cast) for z in tokens]))
        assert rolling.module.matrix.dtype == torch.float32
    assert events[1].angle == pytest.approx(events[0].angle, abs=0.02)


def test_a_layer_without_memory_of_its_own_is_counted():
    with torch.device("meta"):
        layer = AttentionFusion(8, 4)
        assert layer([torch.randn(2, 5, 8), torch.randn(2, 3, 8)]).logits.shape == (2, 4)
