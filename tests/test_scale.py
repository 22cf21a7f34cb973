"""The comparison in run folders: what it trains, pairs and goes on with."""

import shutil

import pytest

from rollingq_core.evaluation import under_noise
from rollingq_core.records import read_record, rounded
from rollingq_core.reproduce import scale
from rollingq_core.runs.description import RunDescription
from rollingq_core.runs.folder import CHECKPOINT, HISTORY, MODEL, train_in

NAME = "scale-digits-smoke"


def reproduce(folder, seeds=(100,)):
    return scale.reproduce("digits", "smoke", seeds, out=folder / f"{NAME}.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    return folder, reproduce(folder, (100, 101))


def test_each_method_is_trained_at_each_seed_in_a_folder_of_its_own(finished):
    folder, record = finished
    assert read_record(NAME, folder) == rounded(record)
    found = [(run["seed"], run["method"]) for run in record["runs"]]
    assert found == [(seed, name) for seed in (100, 101) for name in scale.COMPARED]
    for seed in (100, 101):
        for name in scale.COMPARED:
            files = {path.name for path in (folder / NAME / f"{name}-{seed}").iterdir()}
            assert files == {CHECKPOINT, HISTORY, MODEL}
    samples = {"train": 64, "validation": 64, "test": 64}
    assert all(run["samples"] == samples for run in record["runs"])
    assert record["command"].endswith("scale --data digits --profile smoke --seeds 2")


def test_the_random_turn_is_by_the_angle_of_the_rollingq_run(finished):
    _, record = finished
    for seed in (100, 101):
        ours, random = (
            [(e["epoch"], round(e["angle"], 5)) for run in record["runs"]
             if (run["method"], run["seed"]) == (method, seed) for e in run["events"]]
            for method in ("mt+rollingq", "mt+random_matched")
        )  # fmt: skip
        assert ours == random
        assert ours


def test_noise_is_put_into_each_modality(finished):
    folder, record = finished
    wanted = RunDescription.of_profile("digits", "mt", "smoke", 100)
    run = train_in(folder / NAME / "mt-100", wanted)
    (row,) = [r for r in record["runs"] if (r["method"], r["seed"]) == ("mt", 100)]
    for name in ("audio", "visual"):
        expected = under_noise(run.model, run.data.test, name, record["levels"], seed=100)
        assert row["accuracy"][name] == pytest.approx(expected.accuracy.tolist(), abs=1e-6)
        assert set(row["pearson"]) == {"audio", "visual"}


def test_what_is_trained_already_is_kept(finished, tmp_path, monkeypatch):
    folder, record = finished
    shutil.copytree(folder / NAME, tmp_path / NAME)
    shutil.rmtree(tmp_path / NAME / "mt+random_matched-101")
    trained = []

    def counting(target, *arguments, **options):
        options["watch"] = lambda history: trained.append((target.name, len(history)))
        return train_in(target, *arguments, **options)

    monkeypatch.setattr(scale, "train_in", counting)
    again = reproduce(tmp_path, (100, 101))
    # A finished run tells once, with all its epochs; the lost one from its beginning.
    lost = [count for name, count in trained if name == "mt+random_matched-101"]
    assert lost == [0, 1]
    assert {count for name, count in trained if name != "mt+random_matched-101"} == {1}
    for one, two in zip(record["runs"], again["runs"], strict=True):
        assert one == two
