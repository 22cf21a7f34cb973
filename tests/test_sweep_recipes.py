"""The records made of many runs: the rho-beta grid and the regime map."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from rollingq_core.data import load_dataset
from rollingq_core.records import read_record, rounded
from rollingq_core.reproduce import grid, regimes
from rollingq_core.reproduce.seeds import REPORTING_SEEDS
from rollingq_core.runs import sweep as runs
from rollingq_core.runs import train
from rollingq_core.settings import SETTINGS
from tests.small import SETTING, SIZES

BETAS = (0.0, 0.3, 1.9)


@pytest.fixture
def tiny(monkeypatch):
    """Setting T on small data, so that a run takes a fraction of a second."""
    short = replace(SETTING, training=replace(SETTING.training, epochs=3))
    monkeypatch.setitem(SETTINGS, "T", short)
    monkeypatch.setattr(runs, "load_dataset", small)
    monkeypatch.setattr(grid, "RHOS", (1.0, 4.0))
    monkeypatch.setattr(grid, "BETAS", BETAS)
    monkeypatch.setattr(regimes, "SHARPNESS", (0.3, 1.0))
    monkeypatch.setattr(regimes, "VISUAL", (2.0,))
    monkeypatch.setattr(regimes, "SIZES", (40, 80))
    monkeypatch.setattr(regimes, "BUDGETS", (1, 3))
    return short


def small(name, seed, **options):
    return load_dataset(name, seed=seed, **{**SIZES, **options})


def test_each_cell_of_the_grid_is_the_run_at_its_rho_and_beta(tiny, tmp_path):
    record = grid.reproduce((0, 1), out=tmp_path / "grid.json", jobs=1)
    assert read_record("grid", tmp_path) == rounded(record)
    assert [record[name] for name in ("rhos", "betas", "seeds")] == [[1.0, 4.0], [*BETAS], [0, 1]]
    for seed in (0, 1):
        rows = [row for row in record["runs"] if row["seed"] == seed]
        cells = {tuple(cell): row for row in rows for cell in row["cells"]}
        assert sum(len(row["cells"]) for row in rows) == len(cells) == 6
        assert [row["method"] for row in rows] == ["mt"] + ["mt+rollingq"] * (len(rows) - 1)
        # No imbalance reaches 1.9, so nothing ever turns there.
        assert cells[0, 2]["method"] == cells[1, 2]["method"] == "mt"
        assert cells[0, 2]["rotations"] == []
        assert cells[0, 0] is not cells[1, 0]
        for place, (rho, beta) in (((0, 0), (1.0, 0.0)), ((1, 1), (4.0, 0.3))):
            own = replace(tiny, rho=rho, beta=beta)
            run = train("mt+rollingq", small("synthetic", seed), setting=own, seed=seed)
            expected = grid.report("mt+rollingq", seed, run)
            found = {name: cells[place][name] for name in expected}
            assert found["rotations"] == expected["rotations"]
            for name in ("air", "share", "query_norm", "validation_accuracy", "accuracy"):
                # Both are rounded after the third digit.
                np.testing.assert_allclose(found[name], expected[name], atol=1.1e-2, err_msg=name)


def test_grid_and_regimes_go_on_after_a_crash(tiny, tmp_path, monkeypatch):
    whole = grid.reproduce((0, 1), out=tmp_path / "whole.json", jobs=1)
    original, done = grid.run_seed, []

    def crashing(seed):
        if seed == 1 and done == [0]:
            done.append("crash")
            raise KeyboardInterrupt
        done.append(seed)
        return original(seed)

    monkeypatch.setattr(grid, "run_seed", crashing)
    with pytest.raises(KeyboardInterrupt):
        grid.reproduce((0, 1), out=tmp_path / "grid.json", jobs=1)
    resumed = grid.reproduce((0, 1), out=tmp_path / "grid.json", jobs=1)
    assert done == [0, "crash", 1]
    assert rounded(resumed["runs"]) == rounded(whole["runs"])


def test_a_regime_is_a_row_for_each_seed_method_and_budget(tiny, tmp_path):
    record = regimes.reproduce((100, 101), out=tmp_path / "regimes.json", jobs=1)
    assert read_record("regimes", tmp_path) == rounded(record)
    rows = record["runs"]
    # Two sharpnesses, two sizes, two seeds; vanilla, uniform, and two methods at two budgets.
    assert len(rows) == 2 * 2 * 2 * (2 + 2 * 2)
    for row in rows:
        if row["method"] in ("mt", "uniform"):
            assert (row["max_rotations"], row["rotations"]) == (None, [])
        else:
            assert len(row["rotations"]) == row["max_rotations"]
    picked = next(
        row
        for row in rows
        if (row["method"], row["seed"], row["max_rotations"]) == ("mt+rollingq", 101, 3)
        and (row["cls_std"], row["train_samples"]) == (0.3, 40)
    )
    setting = replace(tiny, cls_std=0.3, max_rotations=3)
    data = small("synthetic", 101, train_samples=40, visual_strength=2.0)
    run = train("mt+rollingq", data, setting=setting, seed=101)
    expected = regimes.report("mt+rollingq", 101, run)
    assert picked["accuracy"] == pytest.approx(expected["accuracy"], abs=1.1e-2)
    assert picked["air"] == pytest.approx(expected["air"], abs=1.1e-3)


def test_committed_grid_is_of_todays_setting_and_of_tuning_seeds():
    record = read_record("grid-synthetic-T")
    axes = {"rhos": grid.RHOS, "betas": grid.BETAS}
    today = {"data": "synthetic", "setting": "T"} | axes | asdict(SETTINGS["T"])
    assert record["config"] == rounded(today)
    assert len(record["rhos"]) == len(record["betas"]) == 9
    assert len(record["seeds"]) >= 5
    assert max(record["seeds"]) < 10
    for seed in record["seeds"]:
        cells = [tuple(c) for r in record["runs"] if r["seed"] == seed for c in r["cells"]]
        assert sorted(cells) == [(i, j) for i in range(9) for j in range(9)]


def test_committed_regimes_are_of_todays_setting_and_of_reporting_seeds():
    record = read_record("regimes-synthetic-T")
    today = {name: record["config"][name] for name in ("data", "setting", "seeds")}
    today |= {"axes": {"cls_std": regimes.SHARPNESS, "visual_strength": regimes.VISUAL,
                       "train_samples": regimes.SIZES}}  # fmt: skip
    today |= {"budgets": regimes.BUDGETS, "methods": regimes.METHODS} | asdict(SETTINGS["T"])
    assert record["config"] == rounded(today)
    assert set(record["seeds"]) == set(REPORTING_SEEDS)
    assert len(record["runs"]) == 12 * 12 * 8
