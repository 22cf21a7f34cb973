"""A modality that a sample lacks, with a mask or as zeros, never steers the query."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rollingq_core import AttentionFusion, QueryRotation, RollingQ
from rollingq_core._precision import negligible, rounding
from rollingq_core.air import RunningExpectation

steady = settings(deadline=None, max_examples=25, derandomize=True)
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def observer(layer=None, **options) -> RollingQ:
    options = {"rho": 2.0, "beta": 0.0, "max_rotations": 3, **options}
    return RollingQ(QueryRotation(8) if layer is None else layer, **options)


@steady
@given(
    seed=st.integers(0, 2**31 - 1),
    dtype=st.sampled_from(DTYPES),
    place=st.integers(0, 2),
    dim=st.integers(1, 32),
    share=st.one_of(st.floats(-12, -0.05), st.floats(0.05, 3)),
)
def test_a_key_is_a_direction_only_above_the_roundings_of_the_others(
    seed, dtype, place, dim, share
):
    keys = torch.nn.functional.normalize(draw(seed, 4, 3, dim) + 0.1, dim=-1)
    keys = keys / keys.abs().amax(-1, keepdim=True)
    size = rounding(dtype) * 10.0**share
    keys[1, place] *= size
    keys = keys.to(dtype)
    found = negligible(keys)
    assert found.sum() == (share < 0)
    assert found[1, place] == (share < 0)


@steady
@given(seed=st.integers(0, 2**31 - 1), exponent=st.integers(-250, 250))
def test_only_the_ratio_of_the_lengths_matters(seed, exponent):
    keys = draw(seed, 5, 2, 6)
    keys[::2, 1] *= 1e-10
    scaled = keys * 10.0**exponent
    assert torch.equal(negligible(scaled), negligible(keys))
    assert negligible(keys)[:, 1].tolist() == [True, False, True, False, True]


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_is_finer_the_more_digits_there_are(dtype):
    eps = torch.finfo(dtype).eps
    assert eps <= rounding(dtype) <= math.sqrt(eps)
    assert rounding(torch.float64) < 1e-7 < 1e-4 < rounding(torch.float32) < 1e-3
    assert rounding(torch.bfloat16) < 0.01


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("rotation", ["minimal", "svd", "random_matched", "random_free"])
def test_a_modality_that_is_only_rounding_turns_nothing(noise, dtype, place, rotation):
    if dtype == torch.float64 and noise == 1e-7:
        pytest.skip("float64 holds that many digits")
    keys = draw(0, 6, 2, 8).to(dtype)
    keys[:, place] *= noise
    rolling = observer(rotation=rotation)
    rolling.observe(query=draw(1, 8).to(dtype), mean_keys=keys)
    with pytest.warns(UserWarning, match=r"^no rotation after epoch 0: output\.mean_keys"):
        assert rolling.end_epoch() is None
    assert rolling.last is None
    assert torch.equal(rolling.module.matrix, torch.eye(8))
    # Training goes on.
    rolling.observe(query=draw(1, 8), mean_keys=draw(2, 6, 2, 8))
    assert rolling.end_epoch().epoch == 1


def test_samples_without_the_modality_are_left_out_of_the_others_expectation():
    keys, query = draw(0, 8, 2, 8).float(), draw(1, 8).float()
    whole = keys[::2]
    keys[1::2, 1] = 1e-9 * keys[1::2, 1]
    found, expected = RunningExpectation(), RunningExpectation()
    found.update(query, keys)
    expected.update(query, whole)
    for name in ("query", "mean_keys", "cosines", "query_norm"):
        torch.testing.assert_close(
            getattr(found.compute(), name), getattr(expected.compute(), name)
        )


def test_keys_that_cancel_but_for_rounding_have_no_direction():
    keys = draw(0, 1, 2, 8).repeat(2, 1, 1)
    keys[1, 0] *= -(1 + 1e-10)
    rolling = observer()
    rolling.observe(query=draw(1, 8), mean_keys=keys)
    with pytest.warns(UserWarning, match="only rounding beside"):
        assert rolling.end_epoch() is None


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_missing_modality_while_training(bias, masked):
    torch.manual_seed(0)
    layer = AttentionFusion(8, 4, bias=bias, cls_std=1.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    rolling = observer(layer)
    masks = [None, torch.ones(6, 3, dtype=torch.bool)] if masked else None
    for _ in range(2):
        for _ in range(20):
            output = layer([torch.randn(6, 5, 8) + 1, torch.zeros(6, 3, 8)], masks)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(output.logits, torch.arange(6) % 4).backward()
            optimizer.step()
            rolling.observe(output)
        with pytest.warns(UserWarning, match="no sample with a key in each modality"):
            assert rolling.end_epoch() is None
    assert torch.equal(layer.rotation.matrix, torch.eye(8))
    # With a bias, what is left of its zero gradient is why zero is not asked for.
    assert masked or bias == bool(output.mean_keys[:, 1].any())


def test_nobody_is_warned_where_no_rotation_is_due():
    keys = torch.zeros(3, 2, 8)
    for options in ({"max_rotations": 0}, {"start_epoch": 5}):
        rolling = observer(**options)
        rolling.observe(query=torch.ones(8), mean_keys=keys)
        assert rolling.end_epoch() is None
    rolling = observer(rotation="random_free", schedule=[])
    rolling.observe(query=torch.ones(8), mean_keys=keys)
    assert rolling.end_epoch() is None


def test_a_masked_modality_has_a_mean_key_of_exact_zeros():
    layer = AttentionFusion(8, 4)
    torch.nn.init.ones_(layer.k_proj.bias)
    tokens = [torch.randn(3, 5, 8), torch.randn(3, 4, 8)]
    masks = [torch.zeros(3, 5, dtype=torch.bool), None]
    masks[0][1] = True
    for k_proj in (layer.k_proj, torch.nn.Sequential(layer.k_proj)):
        layer.k_proj = k_proj
        keys = layer(tokens, masks).mean_keys
        assert (keys == 0).all(-1).tolist() == [[False, False], [True, False], [False, False]]
