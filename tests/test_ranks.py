"""Sums over processes, told what the others have: the order of addition, and who has none."""

import pytest
import torch

from rollingq_core import _ranks
from rollingq_core.air import RunningExpectation


@pytest.fixture
def others(monkeypatch):
    """Return a function that stands this process, with sums of its own, among others."""

    def stand(place, *parts):
        def gathered(own):
            found = list(parts)
            found.insert(place, own)
            return found

        monkeypatch.setattr(_ranks, "world_size", lambda: 1 + len(parts))
        monkeypatch.setattr(_ranks, "gathered", gathered)

    return stand


def test_alone_the_sums_are_ones_own():
    own = {"count": torch.tensor(3)}
    assert _ranks.summed(own) is own


def test_each_name_is_summed_over_those_that_have_it(others):
    others(1, {"count": torch.tensor(1)}, {"count": torch.tensor(5), "loss": torch.tensor(0.5)})
    found = _ranks.summed({"count": torch.tensor(3), "right": torch.tensor(2)})
    assert {name: value.item() for name, value in found.items()} == {
        "count": 9,
        "right": 2,
        "loss": 0.5,
    }


def test_a_process_without_sums_gets_those_of_the_others(others):
    part = {"count": torch.tensor(2.0), "query": torch.tensor([1.0, 3.0])}
    others(0, part, part)
    found = _ranks.summed({})
    assert list(found) == ["count", "query"]
    assert found["count"] == 4
    assert found["query"].tolist() == [2, 6]


def test_order_of_addition_is_that_of_the_processes(others):
    # In single precision 1e8 + 1 is 1e8: another order would give another sum.
    parts = [{"x": torch.tensor(value)} for value in (1e8, -1e8)]
    others(2, *parts)
    assert _ranks.summed({"x": torch.tensor(1.0)})["x"] == 1
    others(1, *parts)
    assert _ranks.summed({"x": torch.tensor(1.0)})["x"] == 0


def test_where_one_process_has_observed_nothing_its_expectations_are_the_others(others):
    query, keys = torch.tensor([1.0, 0.0]), torch.eye(2).expand(6, 2, 2)
    whole, part = RunningExpectation(), RunningExpectation()
    whole.update(query, keys)
    expected = whole.compute()
    part.update(query, keys[:3])
    others(1, dict(part.sums), dict(part.sums))
    found = RunningExpectation().compute()
    assert found.air == expected.air == 1
    torch.testing.assert_close(found.query, expected.query)
    torch.testing.assert_close(found.mean_keys, expected.mean_keys)


def test_where_no_process_has_observed_anything_there_is_no_expectation(others):
    others(0, {}, {})
    assert RunningExpectation().compute() is None
