"""The benchmark of a whole step: its ways to train do the same work, and its record is whole."""

import math

import pytest
import torch

from benchmarks import full_step, table4
from rollingq_core.models.paper import build_small_paper_model
from rollingq_core.records import read_record

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    sizes = {"audio": (1, 32, 32), "visual": (3, 32, 32)}
    monkeypatch.setattr(full_step, "SHAPES", sizes)
    monkeypatch.setattr(full_step, "DIM", 32)
    monkeypatch.setattr(full_step, "build_paper_model", build_small_paper_model)


def test_three_backward_passes_are_one_over_the_sum():
    published = full_step.Step(CPU, 2, fusion="textbook", published=True)
    once = full_step.Step(CPU, 2, fusion="textbook")
    before = [p.clone() for p in once.model.parameters()]
    published()
    once()
    moved = 0.0
    for old, one, two in zip(
        before, published.model.parameters(), once.model.parameters(), strict=True
    ):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
        moved = max(moved, float((old - two).detach().abs().max()))
    assert moved > 1e-4


def test_it_measures_each_way_and_writes_a_record(tmp_path, capsys):
    options = ["--device", "cpu", "--batch", "2", "--repetitions", "1", "--no-compile"]
    full_step.main([*options, "--out", str(tmp_path)])
    record = read_record("full-step-cpu", tmp_path)
    ways = [(r["fusion"], r["precision"], r["published"]) for r in record["runs"]]
    assert ways == [
        ("textbook", "float32", True),
        ("textbook", "float32", False),
        ("ours", "float32", False),
    ]
    for row in record["runs"]:
        steps = record["steps_of_an_epoch"] * row["step_seconds"]
        assert math.isclose(row["epoch_seconds"], steps + row["rotation_seconds"], rel_tol=1e-4)
        assert math.isclose(row["samples_per_second"] * row["step_seconds"], 2, rel_tol=1e-4)
        assert row["peak_mib"] > 0
    assert str(tmp_path / "full-step-cpu.json") in capsys.readouterr().out


def test_the_peak_of_a_step_holds_its_gradients_whatever_ran_before():
    step = full_step.Step(CPU, 2)
    first, second, third = (full_step.peak_bytes(step, CPU) for _ in range(3))
    assert first == second == third
    assert first > sum(4 * weights.numel() for weights in step.model.parameters())


def test_each_method_of_table_4_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(table4, "peak_bytes", lambda step, device: 2**20)
    options = ["--device", "cpu", "--batch", "2", "--repetitions", "1", "--out", str(tmp_path)]
    table4.main(options)
    rows = read_record("table4-cpu", tmp_path)["runs"]
    assert [row["method"] for row in rows] == [*table4.METHODS, "mt+rollingq, folded"]
    for row in rows:
        assert min(row["step_seconds"], row["step_ratio"], row["forward_ratio"]) > 0


def test_a_folded_step_answers_as_before():
    turned = full_step.Step(CPU, 2, method="mt+rollingq")
    turned.model.eval()
    before = turned.model(turned.inputs).fusion.logits
    assert turned.rolling is not None
    assert int(turned.model.fusion.rotation.count) == 1
    after = table4.folded(turned).model(turned.inputs).fusion.logits
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
