"""The paper's datasets from files in their exact layouts to answers, by commands alone."""

import json
from importlib import import_module

import numpy as np
import pytest
import torch

from rollingq_core.__main__ import main
from rollingq_core.data import mosei
from rollingq_core.models.backbones import SequenceTransformer
from rollingq_core.runs.description import RunDescription
from rollingq_core.training.checkpoint import load_checkpoint
from tests import folders
from tests.killed import kill_at


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """A data root that holds all five, none of them prepared."""
    root = tmp_path_factory.mktemp("data")
    for home, make in folders.HOMES.values():
        make(root / home)
    return root


@pytest.mark.parametrize("name", folders.HOMES)
def test_from_files_to_answers_by_commands(name, data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROLLINGQ_DATA", str(data_root))
    main(["data", "verify", name])
    assert capsys.readouterr().out.splitlines()[-1] == "ok"
    main(["data", "prepare", name])
    assert str(data_root) in capsys.readouterr().out
    run = tmp_path / "run"
    main(
        [
            "train",
            "--data",
            name,
            "--profile",
            "smoke",
            "--method",
            "mt+rollingq",
            "--out",
            str(run),
        ]
    )
    main(["evaluate", str(run), "--test", "noise"])
    record = json.loads((run / "noise.json").read_text())
    assert record["config"]["data"] == name
    rates = [x for key, value in record["runs"][0].items() if " " in key for x in value]
    assert len(rates) >= 5 * 5 * 3
    assert all(0 <= rate <= 1 for rate in rates)


@pytest.mark.parametrize("name", ["cremad", "kinetics_sounds", "ucf101", "hmdb51"])
def test_a_blank_clip_takes_what_a_clip_takes(name, data_root, monkeypatch):
    monkeypatch.setenv("ROLLINGQ_DATA", str(data_root))
    module = import_module(f"rollingq_core.data.{name}")
    cache, blank = module.prepare(), getattr(module, name.upper()).blank()
    assert {path.stem for path in cache.glob("*.npy")} == {*blank, "labels"}
    for modality, stored in blank.items():
        row = np.load(cache / f"{modality}.npy", mmap_mode="r")[0]
        assert (row.shape, row.dtype) == (stored.shape, stored.dtype)


@pytest.fixture(scope="module")
def training(data_root):
    """Return the command for a run on videos, and the folder of one that was left alone."""
    command = ["train", "--data", "ucf101", "--profile", "smoke", "--method", "mt+rollingq"]
    command += ["--epochs", "3", "--out"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROLLINGQ_DATA", str(data_root))
        main(["data", "prepare", "ucf101"])
        main([*command, str(data_root / "whole")])
        main(["evaluate", str(data_root / "whole"), "--test", "correlation"])
    return command, data_root / "whole"


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        "step 4",  # within the second epoch
        "replace 4",  # its checkpoint is written, but not yet in its place
        "replace 5",  # its checkpoint is there, its history not
    ],
)
def test_killed_while_it_trains_on_videos_it_goes_on_and_ends_the_same(
    moment, training, data_root, tmp_path, monkeypatch
):
    monkeypatch.setenv("ROLLINGQ_DATA", str(data_root))
    command, whole = training
    kill_at(tmp_path, moment, *command, tmp_path / "run")
    epochs = 2 if moment == "replace 5" else 1
    assert len(load_checkpoint(tmp_path / "run" / "checkpoint.pt")["history"]) == epochs
    main([*command, str(tmp_path / "run")])
    main(["evaluate", str(tmp_path / "run"), "--test", "correlation"])
    found, expected = (load_checkpoint(run / "checkpoint.pt") for run in (tmp_path / "run", whole))
    for name, weights in expected["parts"]["model"].items():
        assert torch.equal(found["parts"]["model"][name], weights), name
    assert found["history"] == expected["history"]
    assert sum(epoch["rotation"] is not None for epoch in found["history"]) > 1
    found, expected = (
        json.loads((run / "correlation.json").read_text())["runs"]
        for run in (tmp_path / "run", whole)
    )
    assert found == expected


def test_unknown_actions_by_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("ROLLINGQ_DATA", str(tmp_path))
    folders.make_hmdb51(tmp_path / "HMDB51", ["catch", "clap", "walk"])
    folders.make_ucf101(tmp_path / "UCF-101", ["YoYo"])
    for name in ("hmdb51", "ucf101"):
        main(["data", "prepare", name])
    for name, kind, classes in (("hmdb51-near", "near", 25), ("hmdb51-far", "far", 43)):
        run = tmp_path / name
        main(["train", "--data", name, "--profile", "smoke", "--method", "mt", "--out", str(run)])
        assert len(json.loads((run / "model.json").read_text())["measured"]["classes"]) == classes
        main(["evaluate", str(run), "--test", "ood"])
        (told,) = json.loads((run / "ood.json").read_text())["runs"]
        assert {key.split()[0] for key in told["auroc"]} == {kind, "mismatched", "noise"}


def test_the_papers_model_of_sequences(data_root, monkeypatch):
    monkeypatch.setenv("ROLLINGQ_DATA", str(data_root))
    mosei.prepare()
    run = RunDescription.of_profile("mosei", "mt+rollingq", "gpu")
    data = run.load_data()
    model = run.prepare(data, fresh=True).model
    for name, features in (("audio", 74), ("visual", 35), ("text", 300)):
        encoder = model.encoders[name]
        assert isinstance(encoder, SequenceTransformer)
        assert (encoder.dim, encoder.length, len(encoder.blocks.layers)) == (120, 50, 4)
        assert encoder.embed.in_features == features
    inputs, _ = data.train.__getitems__([0, 1])
    assert model.eval()(inputs).fusion.share.shape == (2, 3)


@pytest.mark.parametrize(("name", "turns"), [("kinetics_sounds", 3), ("cremad", 1), ("mosei", 1)])
def test_the_papers_limits_of_turns(name, turns):
    assert RunDescription.of_profile(name, "mt+rollingq", "gpu").setting.max_rotations == turns
