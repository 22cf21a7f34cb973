"""Choosing on validation splits of some seeds, and reporting on others."""

from dataclasses import replace

import pytest

from rollingq_core.records import read_record
from rollingq_core.reproduce import RECIPES, tuning
from rollingq_core.runs import sweep as runs
from rollingq_core.settings import SETTINGS
from tests.small import small_data

SHORT = replace(SETTINGS["T"], training=replace(SETTINGS["T"].training, epochs=2), beta=0.0)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(SETTINGS, "T", SHORT)
    monkeypatch.setattr(runs, "load_dataset", lambda name, seed: small_data(seed))
    monkeypatch.setattr(tuning, "TRAINING", {"lr": (1, 30), "cls_std": (1,), "weight_decay": (0,)})
    monkeypatch.setattr(tuning, "ROLLING", {"rho": (1,), "beta": (0,), "max_rotations": (1, 2)})


def row(method, accuracy, **choice):
    return {"method": method, "validation_accuracy": accuracy, "choice": choice}


def test_the_best_mean_is_chosen_of_each_methods_own():
    rows = [row("mt", 0.9, lr=1), row("mt", 0.5, lr=1), row("mt", 0.8, lr=3), row("mt", 0.7, lr=3)]
    rows += [row("mt+rollingq", 0.95, rho=2)]
    assert tuning.best(rows, "mt") == {"lr": 3}
    assert tuning.best(rows, "mt+rollingq") == {"rho": 2}
    assert tuning.best(rows[::2], "mt") == {"lr": 1}


def test_what_is_chosen_is_reported_on_other_seeds(small, tmp_path):
    out = tmp_path / "tuning.json"
    options = {"out": out, "jobs": 1, "tuning_seeds": [0, 1]}
    record = tuning.reproduce("synthetic", "T", [100, 101], **options)
    found = read_record("tuning-search", tmp_path)
    assert {run["seed"] for run in found["runs"]} == {0, 1}
    assert len(found["runs"]) == 2 * (2 + 2)
    assert record["config"]["training"] == tuning.best(found["runs"], "mt")
    assert record["config"]["rolling"] == tuning.best(found["runs"], "mt+rollingq")
    kinds = [(run["variant"], run["method"]) for run in record["runs"] if run["seed"] == 101]
    ways = ("as it was", "training tuned", "RollingQ tuned", "both tuned")
    assert kinds == [(way, method) for way in ways for method in tuning.COMPARED]
    assert "both tuned: RollingQ" in str(RECIPES["tuning"].table(record))


def test_what_is_changed_in_a_setting():
    made = tuning.changed(SETTINGS["P"], {"lr": 3, "cls_std": 0.02, "weight_decay": 1e-3})
    assert made.training.lr == pytest.approx(3 * SETTINGS["P"].training.lr)
    assert (made.cls_std, made.training.weight_decay) == (0.02, 1e-3)
    assert made.rho == SETTINGS["P"].rho


def test_a_seed_is_not_chosen_and_reported_on(tmp_path):
    with pytest.raises(ValueError, match=r"seeds: got \[1\] in tuning_seeds"):
        tuning.reproduce("digits", "P", [1, 100], out=tmp_path / "x.json")
