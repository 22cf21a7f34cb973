"""The Attention Imbalance Rate, and its expectation streamed over batches."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rollingq_core import _ranks, anchor_weight, attention_imbalance_rate, minimal_rotation
from rollingq_core.air import RunningExpectation, modality_cosines

seeds = st.integers(0, 2**31 - 1)
steady = settings(deadline=None, max_examples=25, derandomize=True)

QUERY = torch.tensor([2.0, 0, 0, 0])
KEYS_A = torch.tensor([[2.0, 1, 0, 0], [2, 1, 0, 0]])
KEYS_V = torch.tensor([[0.0, 1, 1, 0], [-1, 1, 1, 0]])


def draw(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_toy():
    air = attention_imbalance_rate(QUERY, KEYS_A, KEYS_V)
    assert air.shape == ()
    assert float(air) == pytest.approx(1.1831023, abs=1e-5)
    assert anchor_weight(float(air), 1.0) == pytest.approx(0.0857863, abs=1e-5)


def test_the_sign_flips_after_the_toys_rotation():
    anchor = torch.tensor([-0.496626, 1.411064, 1.327502, 0])
    turned = QUERY @ minimal_rotation(QUERY, anchor)
    air = attention_imbalance_rate(turned, KEYS_A, KEYS_V)
    assert float(air) == pytest.approx(-0.857649, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_extremes_are_two_and_minus_two(dtype):
    key = torch.tensor([[3.0, 4.0]], dtype=dtype)
    assert attention_imbalance_rate(key[0], key, -key).dtype == dtype
    assert float(attention_imbalance_rate(key[0], key, -key)) == pytest.approx(2)
    assert float(attention_imbalance_rate(key[0], -key, key)) == pytest.approx(-2)


@steady
@given(seed=seeds, batch=st.integers(1, 6), dim=st.integers(1, 12))
def test_range_antisymmetry_and_the_two_forms_of_the_query(seed, batch, dim):
    query, keys_a, keys_v = draw(seed, dim), draw(seed + 1, batch, dim), draw(seed + 2, batch, dim)
    air = float(attention_imbalance_rate(query, keys_a, keys_v))
    assert -2 - 1e-12 <= air <= 2 + 1e-12
    assert float(attention_imbalance_rate(query, keys_v, keys_a)) == pytest.approx(-air)
    rows = query.expand(batch, dim)
    assert float(attention_imbalance_rate(rows, keys_a, keys_v)) == pytest.approx(air)


def test_each_sample_is_compared_with_its_own_query():
    query, keys_a, keys_v = draw(0, 3, 5), draw(1, 3, 5), draw(2, 3, 5)
    each = [
        float(attention_imbalance_rate(q, a[None], v[None]))
        for q, a, v in zip(query, keys_a, keys_v, strict=True)
    ]
    air = attention_imbalance_rate(query, keys_a, keys_v)
    assert float(air) == pytest.approx(sum(each) / 3)


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e20, 1e37])
def test_lengths_do_not_matter_however_extreme(scale):
    query, keys_a, keys_v = draw(0, 6).float(), draw(1, 3, 6).float(), draw(2, 3, 6).float()
    air = float(attention_imbalance_rate(query, keys_a, keys_v))
    for scaled in (
        (query * scale, keys_a, keys_v),
        (query, keys_a * scale, keys_v),
        (query * scale, keys_a * scale, keys_v * scale),
    ):
        assert float(attention_imbalance_rate(*scaled)) == pytest.approx(air, abs=1e-5)


@steady
@given(
    seed=seeds, sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5), per_sample=st.booleans()
)
def test_streaming_uneven_batches_is_the_mean_over_all_samples(seed, sizes, per_sample):
    total = sum(sizes)
    mean_keys = draw(seed, total, 3, 4)
    query = draw(seed + 1, total, 4) if per_sample else draw(seed + 1, 4)
    running = RunningExpectation()
    for keys, part in zip(
        mean_keys.split(sizes),
        query.split(sizes) if per_sample else [query] * len(sizes),
        strict=True,
    ):
        running.update(part, keys)
    expected = running.compute()
    rows = query.expand(total, 4)
    torch.testing.assert_close(expected.query, rows.mean(0))
    torch.testing.assert_close(expected.mean_keys, mean_keys.mean(0))
    unit = torch.nn.functional.normalize
    cosines = (unit(rows, dim=-1)[:, None] * unit(mean_keys, dim=-1)).sum(-1).mean(0)
    torch.testing.assert_close(expected.cosines, cosines)
    air = float(attention_imbalance_rate(query, mean_keys[:, 0], mean_keys[:, 1]))
    assert expected.air == pytest.approx(air)
    assert expected.imbalance == pytest.approx(float(cosines.max() - cosines.min()))


def test_the_imbalance_of_two_is_the_absolute_rate():
    for keys in ((KEYS_A, KEYS_V), (KEYS_V, KEYS_A)):
        running = RunningExpectation()
        running.update(QUERY, torch.stack(keys, dim=1))
        expected = running.compute()
        assert expected.imbalance == pytest.approx(abs(expected.air))
        assert expected.imbalance == pytest.approx(1.1831023, abs=1e-5)


def test_a_sample_with_an_absent_modality_is_left_out():
    mean_keys, query = draw(0, 4, 2, 5), draw(1, 4, 5)
    mean_keys[1, 0] = 0
    mean_keys[3, 1] = 0
    running, kept = RunningExpectation(), RunningExpectation()
    running.update(query, mean_keys)
    kept.update(query[[0, 2]], mean_keys[[0, 2]])
    for name in ("query", "mean_keys", "cosines"):
        torch.testing.assert_close(getattr(running.compute(), name), getattr(kept.compute(), name))


def test_nothing_observed_is_no_expectation():
    running = RunningExpectation()
    assert running.compute() is None
    running.update(draw(0, 5), torch.zeros(3, 2, 5))
    assert running.compute() is None


def test_expectations_are_outside_the_graph_and_in_float64():
    query, mean_keys = draw(0, 5).float().requires_grad_(), draw(1, 3, 2, 5).float()
    running = RunningExpectation()
    running.update(query, mean_keys)
    expected = running.compute()
    assert expected.query.dtype == torch.float64
    assert not expected.query.requires_grad


@pytest.mark.parametrize(
    ("query", "mean_keys", "name"),
    [
        (torch.ones(5), torch.ones(2, 5), "output.mean_keys"),
        (torch.ones(5), torch.ones(3, 1, 5), "output.mean_keys"),
        (torch.ones(5), torch.ones(0, 2, 5), "output.mean_keys"),
        (torch.ones(4), torch.ones(3, 2, 5), "output.query"),
        (torch.ones(2, 5), torch.ones(3, 2, 5), "output.query"),
    ],
)
def test_a_bad_observation_is_named(query, mean_keys, name):
    with pytest.raises(ValueError, match=rf"^{name}: got .*expected"):
        RunningExpectation().update(query, mean_keys)


@pytest.mark.parametrize(
    "bad",
    [
        [[1.0, 2.0, 3.0, 4.0]],
        torch.ones(2, 4, dtype=torch.int64),
        torch.ones(2, 3, 4),
        torch.ones(0, 4),
        torch.zeros(2, 4),
        torch.tensor([[1.0, math.nan, 0, 0]] * 2),
        torch.tensor([[1.0, math.inf, 0, 0]] * 2),
    ],
    ids=lambda bad: str(bad)[:24],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_argument_is_named(place, bad):
    arguments = [torch.ones(2, 4), KEYS_A, KEYS_V]
    arguments[place] = bad
    name = ("query", "keys_a", "keys_v")[place]
    with pytest.raises(ValueError, match=rf"^{name}: got .*expected"):
        attention_imbalance_rate(*arguments)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((QUERY, KEYS_A, KEYS_V[:1]), "keys_v"),
        ((QUERY, KEYS_A, KEYS_V[:, :3]), "keys_v"),
        ((QUERY[:3], KEYS_A, KEYS_V), "query"),
        ((torch.ones(3, 4), KEYS_A, KEYS_V), "query"),
    ],
)
def test_sizes_that_do_not_match_are_named(arguments, name):
    with pytest.raises(ValueError, match=rf"^{name}: got .*expected .* to match"):
        attention_imbalance_rate(*arguments)


# Extreme lengths, with entries that are zero.

EXTREME = {
    torch.float32: [1e-44, 1e-38, 1e-20, 1e19, 3e38],
    torch.float64: [5e-324, 1e-200, 1e-160, 1e160, 1e300],
}


@pytest.mark.parametrize(
    ("dtype", "size"), [(dtype, size) for dtype, sizes in EXTREME.items() for size in sizes]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_with_a_zero_entry_is_scaled_whatever_its_length(dtype, size, place):
    rows = [torch.tensor([[1.0, 0, 0]]), torch.tensor([[3.0, 4, 0]]), torch.tensor([[0.0, 0, 1]])]
    rows = [row.to(dtype) for row in rows]
    rows[place] = rows[place].clamp(max=1) * size
    expected = [(0.6, 0.0), (math.sqrt(0.5), 0.0), (0.6, 0.0)][place]
    found = modality_cosines(rows[0][0], torch.stack(rows[1:], dim=1))
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    air = attention_imbalance_rate(rows[0][0], rows[1], rows[2])
    assert float(air) == pytest.approx(expected[0] - expected[1], abs=1e-6)


def test_a_zero_row_has_a_cosine_of_nought():
    keys = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    assert modality_cosines(torch.tensor([1.0, 1.0]), keys).tolist()[0] == pytest.approx([0, 1])


# Several processes.


def test_a_process_without_sums_takes_the_others(monkeypatch):
    mean_keys, query = draw(0, 6, 2, 5), draw(1, 6, 5)
    parts = [RunningExpectation() for _ in range(3)]
    parts[0].update(query[:4], mean_keys[:4])
    parts[2].update(query[4:], mean_keys[4:])  # the second has seen nothing
    monkeypatch.setattr(_ranks, "world_size", lambda: 3)
    monkeypatch.setattr(_ranks, "gathered", lambda value: [part.sums for part in parts])
    whole = RunningExpectation()
    whole.update(query, mean_keys)
    found = [part.compute() for part in parts]
    monkeypatch.undo()
    expected = whole.compute()
    for name in ("query", "mean_keys", "cosines", "query_norm"):
        for one in found:
            torch.testing.assert_close(getattr(one, name), getattr(expected, name))
            assert torch.equal(getattr(one, name), getattr(found[0], name))
    monkeypatch.setattr(_ranks, "world_size", lambda: 2)
    monkeypatch.setattr(_ranks, "gathered", lambda value: [{}, {}])
    assert parts[1].compute() is None


@pytest.mark.parametrize("name", ["query", "mean_keys"])
@pytest.mark.parametrize("bad", [torch.ones(3, 2, 5).long(), torch.ones(3, 2, 5).bool(), [1.0]])
def test_an_observation_of_another_kind_is_named(name, bad):
    arguments = {"query": torch.ones(5), "mean_keys": torch.ones(3, 2, 5), name: bad}
    with pytest.raises(ValueError, match=r"^output.*expected a"):
        RunningExpectation().update(**arguments)
