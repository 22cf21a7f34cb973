"""``train`` and ``evaluate``: from an empty folder to a table, through kills and hostile files."""

import csv
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from benchmarks.cremad_folder import clip_names, make_folder
from rollingq_core.__main__ import main
from rollingq_core.commands.train import HEADING
from rollingq_core.data import video
from rollingq_core.evaluation import EVALUATIONS, LEVELS
from rollingq_core.methods import METHODS
from rollingq_core.records import read_record
from rollingq_core.training.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from tests.refused import Payload, refused
from tests.small import assert_same_state

SMOKE = ["train", "--data", "digits", "--profile", "smoke", "--seed", "3"]


def train(folder, *options):
    main([*SMOKE, "--out", str(folder), *options])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "deep" / "digits"
    train(folder, "--epochs", "2")
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """Return a copy of a run that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_train_writes_checkpoint_history_and_description(tmp_path, capsys):
    train(tmp_path / "run", "--epochs", "2")
    heading, *epochs, titles, row, caption, last = capsys.readouterr().out.splitlines()
    assert heading == HEADING
    assert [x.split()[:2] for x in epochs] == [["1/2", "fusion"], ["2/2", "fusion"]]
    # An epoch's last cell is the turn in degrees.
    assert float(epochs[0].split()[-1]) > 0
    assert titles.split("  ")[-1] == "rotations"
    assert caption == "Each run's selected epoch: mean ± sd over 1 seed."
    assert last.startswith(str(tmp_path / "run" / "checkpoint.pt"))
    names = {"checkpoint.pt", "history.json", "model.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    kept = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["history"]
    assert history == json.loads(json.dumps(kept))
    selected = int(last.split()[-1]) - 1
    label, validation, test, air, rotations = row.split()
    assert label == "RollingQ"
    assert float(validation) == round(100 * history[selected]["validation_accuracy"], 2)
    assert 0 <= float(test) <= 100
    assert float(air) == round(history[-1]["air"], 2)
    assert float(rotations) == sum(epoch["rotation"] is not None for epoch in history)
    described = json.loads((tmp_path / "run" / "model.json").read_text())
    assert (described["data"], described["method"], described["seed"]) == (
        "digits",
        "mt+rollingq",
        3,
    )
    assert described["measured"]["shapes"] == {"audio": [1, 32, 49], "visual": [1, 8, 8]}


@pytest.mark.parametrize(
    ("test", "rows"),
    [
        ("noise", ["mix audio", "add both", "replace visual"]),
        ("conflict", ["follows audio", "neither", "auroc"]),
        ("calibration", ["accuracy", "ece"]),
        ("correlation", ["pearson", "share_noisy"]),
        ("masks", ["alone audio", "without visual"]),
        ("quag", ["unimodal", "average audio"]),
        ("ood", ["auroc noise gen", "flagged mismatched energy"]),
        ("cost", ["gigaflops_as_in_table4"]),
    ],
)
def test_evaluate_prints_a_table_and_writes_a_record(test, rows, trained, capsys):
    capsys.readouterr()
    source = trained if test == "noise" else trained / "checkpoint.pt"
    main(["evaluate", str(source), "--test", test])
    about, *lines, last = capsys.readouterr().out.splitlines()
    assert about == f"{EVALUATIONS[test].about}; rates as fractions of 1"
    assert last == str(trained / f"{test}.json")
    for row in rows:
        assert sum(line.startswith(row) for line in lines) == 1
    record = read_record(test, trained)
    assert (record["recipe"], record["data_hash"]) == (
        test,
        record["config"]["measured"]["data_hash"],
    )
    if test in ("noise", "calibration"):
        assert lines[0].split() == ["noise", "level", *(f"{level:g}" for level in LEVELS)]
        (run,) = record["runs"]
        shown = float(lines[1].split()[-1])
        assert shown == pytest.approx(run["mix audio" if test == "noise" else "accuracy"][-1], 1e-3)


def test_numbers_of_the_profile_can_be_changed(tmp_path):
    train(tmp_path, "--method", "mt", "--rho", "1.5", "--beta", "0.3", "--max-rotations", "2")
    setting = json.loads((tmp_path / "model.json").read_text())["setting"]
    assert (setting["rho"], setting["beta"], setting["max_rotations"]) == (1.5, 0.3, 2)
    (record,) = json.loads((tmp_path / "history.json").read_text())
    assert record["rotation"] is None


def test_finished_run_is_left_alone(run, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    (run / "history.json").unlink()  # as when a run is killed before it is written
    capsys.readouterr()
    train(run, "--epochs", "2")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    # No epoch is told again, only what came of them.
    _titles, row, _caption, last = capsys.readouterr().out.splitlines()
    assert row.startswith("RollingQ")
    assert last.startswith(str(run / "checkpoint.pt"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "mt"], "method 'mt+rollingq'; expected method 'mt'"),
        (["--rho", "9"], "setting.rho 3.0; expected setting.rho 9.0"),
        (["--epochs", "3"], "setting.training.epochs 2; expected setting.training.epochs 3"),
        (["--data", "avmnist"], "data 'digits'; expected data 'avmnist'"),
    ],
)
def test_folder_of_another_run_is_refused_and_kept(options, message, run, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    arguments = [*SMOKE, "--out", run, "--epochs", "2", *options]
    assert message in refused(capsys, *arguments)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def truncated(path, target):
    path.write_bytes(path.read_bytes()[:-1000])


def payload(path, target):
    torch.save({"format": FORMAT, "best": Payload(target)}, path)


def plain_pickle(path, target):
    path.write_bytes(pickle.dumps(Payload(target)))


def empty(path, target):
    path.write_bytes(b"")


def of_another_method(path, target):
    other = target.parent / "other"
    train(other, "--epochs", "2", "--method", "mt")
    shutil.copy(other / "checkpoint.pt", path)


def uniform(path, target):
    other = target.parent / "other"
    train(other, "--epochs", "2", "--method", "uniform")
    shutil.copy(other / "checkpoint.pt", path)


def of_other_data(path, target):
    state = load_checkpoint(path)
    state["identity"]["data_hash"] = "0" * 64
    save_checkpoint(path, state)


def of_no_run(path, target):
    save_checkpoint(path, {"identity": 5, "history": 6})


def of_another_model(path, target):
    state = load_checkpoint(path)
    state["best"]["model"].popitem()
    state["parts"]["model"].popitem()
    save_checkpoint(path, state)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "damaged or holds more than data"),
        (empty, "damaged or holds more than data"),
        (payload, "damaged or holds more than data"),
        (plain_pickle, "damaged or holds more than data"),
        (of_another_method, "rolling.max_rotations None"),
        (uniform, "is of attention 'uniform'"),
        (of_other_data, "is of data_hash '0000"),
        (of_no_run, "is of "),
        (of_another_model, "is of another model"),
    ],
)
def test_hostile_checkpoint_is_one_line_and_nothing_is_run(damage, message, run, tmp_path, capsys):
    target = tmp_path / "executed"
    damage(run / "checkpoint.pt", target)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert message in refused(capsys, *SMOKE, "--epochs", "2", "--out", run)
    for test in EVALUATIONS:
        assert message in refused(capsys, "evaluate", run, "--test", test)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert not target.exists()


@pytest.mark.parametrize(
    ("method", "other", "message"),
    [
        ("mt", "mt+rollingq", "rolling.rho 3.0"),
        ("mt+rollingq", "mt+random_matched", "rolling.rotation 'random_matched'"),
        ("concat", "pmr", "pmr.alpha 1.0"),
        ("ogm", "ogm-ge", "observers ['ogm-ge']"),
        ("mt", "concat", "is of fusion 'ConcatFusion'"),
        ("concat", "unimodal-visual", "is of modalities ['visual']"),
    ],
)
def test_a_run_does_not_take_another_methods_checkpoint(method, other, message, tmp_path, capsys):
    for name in (method, other):
        train(tmp_path / name, "--method", name)
    shutil.copy(tmp_path / other / "checkpoint.pt", tmp_path / method)
    capsys.readouterr()
    for arguments in (["evaluate", tmp_path / method, "--test", "noise"],
                      [*SMOKE, "--method", method, "--out", tmp_path / method]):  # fmt: skip
        assert message in refused(capsys, *arguments)


def test_several_methods_and_seeds_are_compared(tmp_path, capsys):
    methods = ["mt+random_matched", "mt", "mt+rollingq", "concat"]
    out = tmp_path / "runs"
    train(out, "--method", *methods, "--seeds", "2")
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == str(out)
    assert {path.name for path in out.iterdir()} == {f"{m}-{s}" for m in methods for s in (3, 4)}
    # What follows another method's rotations comes after it, and takes its angles.
    assert [line for line in lines if ", seed " in line] == [
        f"{method}, seed {seed}" for seed in (3, 4) for method in [*methods[1:], methods[0]]
    ]
    for seed in (3, 4):
        turns = [
            [(e["rotation"]["epoch"], round(e["rotation"]["angle"], 5)) for e in history
             if e["rotation"]]
            for history in (
                json.loads((out / f"{name}-{seed}" / "history.json").read_text())
                for name in ("mt+rollingq", "mt+random_matched")
            )
        ]  # fmt: skip
        assert turns[0] == turns[1]
        assert turns[0]
    *_, caption = lines
    assert caption == (
        "Each run's selected epoch: mean ± sd over 2 seeds. "
        "Differences are paired by seed, with their 95 % intervals."
    )
    labels = [METHODS[name].label for name in methods]
    table = lines[-len(labels) * 2 :]
    assert [row.split("  ")[0] for row in table[:-1]] == [
        *labels, *(f"{label} − {labels[0]}" for label in labels[1:])
    ]  # fmt: skip
    # A control that was paired can be tested as any other, and all go on where they were.
    main(["evaluate", str(out / "mt+random_matched-3"), "--test", "correlation"])
    before = {path: path.read_bytes() for path in out.rglob("*.pt")}
    train(out, "--method", *methods, "--seeds", "2")
    assert {path: path.read_bytes() for path in out.rglob("*.pt")} == before


def test_a_method_alone_stands_in_the_folder_itself(tmp_path, capsys):
    train(tmp_path / "concat", "--method", "concat", "concat")
    row = capsys.readouterr().out.splitlines()[-3]
    # A static fusion has neither a lean nor a query that turns.
    assert row.split()[0] == "concat"
    assert row.split()[-2:] == ["–", "–"]
    assert (tmp_path / "concat" / "checkpoint.pt").is_file()
    for test in ("conflict", "correlation", "quag"):
        said = refused(capsys, "evaluate", tmp_path / "concat", "--test", test)
        assert "model: got ConcatFusion, expected a fusion with attention" in said
    for test in ("masks", "ood", "cost"):
        main(["evaluate", str(tmp_path / "concat"), "--test", test])
    main(["evaluate", str(tmp_path / "concat"), "--test", "noise"])


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
def test_a_log_holds_every_epochs_numbers_also_of_a_run_that_goes_on(kind, tmp_path, capsys):
    if kind == "tensorboard":
        pytest.importorskip("tensorboardX")
    options = ["--epochs", "3", "--log", kind]
    train(tmp_path, *options)
    history = json.loads((tmp_path / "history.json").read_text())
    if kind == "tensorboard":
        (events,) = (tmp_path / "events").iterdir()
        told = events.read_bytes()
        for name in (b"train_loss", b"share/audio", b"gradient_norm/visual", b"rotation_angle"):
            assert told.count(name) == 3
        return
    with (tmp_path / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    for row, epoch in zip(rows, history, strict=True):
        assert row["stage"] == epoch["stage"]
        for name in ("train_loss", "validation_accuracy", "air", "lr"):
            assert float(row[name]) == epoch[name]
        for modality in ("audio", "visual"):
            assert float(row[f"share.{modality}"]) == epoch["share"][modality]
            assert float(row[f"gradient_norm.{modality}"]) == epoch["gradient_norm"][modality]
        turned = epoch["rotation"]
        assert float(row["rotation_angle"]) == (turned["angle"] if turned else 0)
    before = (tmp_path / "history.csv").read_text()
    (tmp_path / "history.csv").unlink()
    train(tmp_path, *options)  # all is done already, and told again
    assert (tmp_path / "history.csv").read_text() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"data": "digits"}', "null"])
def test_damaged_description_is_named(content, run, capsys):
    (run / "model.json").write_text(content)
    assert "model.json is damaged" in refused(capsys, "evaluate", run, "--test", "conflict")
    assert "model.json is damaged" in refused(capsys, *SMOKE, "--out", run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *((["evaluate", "nowhere", "--test", test], "model.json") for test in EVALUATIONS),
        *(
            (["evaluate", "RUN", "--test", test, "--data", "synthetic"], "--data: got synthetic")
            for test in EVALUATIONS
        ),
        (["evaluate", "RUN", "--test", "noise", "--device", "abacus"], "--device: got 'abacus'"),
        (["train", "--out", "RUN/new", "--devices", "none"], "--devices: got 'none'"),
        (["train", "--out", "RUN/new", "--seeds", "0"], "--seeds: got 0, expected at least 1"),
        (["train", "--out", "RUN/new", "--seeds", "2", "--devices", "2"], "--devices: got several"),
        (["train", "--out", "RUN/new", "--data", "no.npz"], "no.npz"),
        (["train", "--out", "RUN/new", "--method", "unimodal-text"], "modalities: got ['text']"),
        (["train", "--out", "RUN/new", "--profile", "smoke", "--epochs", "0"], "epochs: got 0"),
        (["train", "--out", "RUN/new", "--profile", "gpu"], "expected grids"),
        (["train", "--out", "RUN/model.json", "--profile", "smoke"], "File exists"),
    ],
)
def test_expected_errors_are_one_line(arguments, message, run, capsys):
    filled = [argument.replace("RUN", str(run)) for argument in arguments]
    assert message in refused(capsys, *filled)


def test_another_dataset_of_the_same_shapes_may_test(run, monkeypatch, capsys):
    from rollingq_core.runs import description as profiles

    original = profiles.load_dataset
    monkeypatch.setattr(profiles, "load_dataset", lambda name, seed: original("digits", seed=9))
    message = refused(capsys, "evaluate", run, "--test", "conflict")
    assert "--data: got digits with data_hash" in message
    main(["evaluate", str(run), "--test", "conflict", "--data", "avmnist"])
    assert capsys.readouterr().out.splitlines()[-1].startswith(str(run))


def start(root, folder, *options):
    command = [sys.executable, "-m", "rollingq_core", *SMOKE, "--out", str(folder), *options]
    return subprocess.Popen(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.slow
def test_killed_three_times_it_ends_as_if_it_had_not_been(root, tmp_path):
    epochs = ["--epochs", "60"]
    path, finished = tmp_path / "cut" / "checkpoint.pt", []
    for wanted in (1, 13, 31):
        process = start(root, tmp_path / "cut", *epochs)
        # Killed as soon as that many epochs have been told of, wherever it is by then.
        for line in process.stdout:
            told = re.match(r" *(\d+)/60 ", line)
            if told and int(told[1]) >= wanted:
                break
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        finished.append(len(load_checkpoint(path)["history"]))
    assert all(one < two for one, two in pairwise([0, *finished, 60]))
    again = start(root, tmp_path / "cut", *epochs)
    out, _ = again.communicate()
    assert again.returncode == 0
    heading, first, *_ = out.splitlines()
    assert heading == HEADING
    assert first.split()[:2] == [f"{finished[-1] + 1}/60", "fusion"]

    train(tmp_path / "whole", *epochs)
    cut, whole = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("cut", "whole"))
    assert cut["history"] == whole["history"]
    assert_same_state(cut["best"]["model"], whole["best"]["model"])
    assert_same_state(cut["parts"]["model"], whole["parts"]["model"])
    texts = [(tmp_path / name / "history.json").read_text() for name in ("cut", "whole")]
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_two_processes_write_one_run(root, tmp_path):
    folder = tmp_path / "run"
    for epochs in (["1/2", "2/2"], []):  # the second time, all is done already
        process = start(root, folder, "--epochs", "2", "--devices", "2", "--log", "tensorboard")
        out, _ = process.communicate()
        assert process.returncode == 0
        *lines, _titles, row, _caption, last = out.splitlines()
        assert [line.split()[0] for line in lines] == (["epoch", *epochs] if epochs else [])
        assert row.startswith("RollingQ")
        assert last.startswith(str(folder / "checkpoint.pt"))
    assert len(json.loads((folder / "history.json").read_text())) == 2
    assert len([*(folder / "events").iterdir()]) == 2  # a file each time, of the first process
    main(["evaluate", str(folder), "--test", "conflict"])


def test_cremad_by_commands_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROLLINGQ_DATA", str(tmp_path))
    flvs = video.available_decoder() == "pyav"
    root = tmp_path / "CREMA-D"
    make_folder(root, clip_names(24), jpgs=not flvs, flvs=flvs, size=(36, 48))
    main(["data", "prepare", "cremad", "--root", str(root)])
    main(["data", "verify", "cremad", "--root", str(root)])
    assert capsys.readouterr().out.splitlines()[-1] == "ok"
    folder = tmp_path / "run"
    main(["train", "--data", "cremad", "--profile", "smoke", "--out", str(folder)])
    shapes = json.loads((folder / "model.json").read_text())["measured"]["shapes"]
    assert shapes == {"audio": [1, 257, 188], "visual": [3, 224, 224]}
    capsys.readouterr()
    main(["evaluate", str(folder), "--test", "correlation"])
    _about, titles, first, *_ = capsys.readouterr().out.splitlines()
    assert (titles.split(), first.split()[0]) == (["value"], "pearson")
