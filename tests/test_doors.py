"""Adding one thing is one file and one line: this file, and a line in a table.

A method, a dataset, an evaluation and a recipe that the package has never heard of go through
Python, the command line, the record, the table that is printed and a figure.
"""

import json
import pickle
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from rollingq_core import RollingQ
from rollingq_core.__main__ import main
from rollingq_core._padding import pooled
from rollingq_core.balancing import Rolling
from rollingq_core.data import from_arrays
from rollingq_core.data.sources import SOURCES, Source
from rollingq_core.data.store import sha256_file
from rollingq_core.evaluation import EVALUATIONS, Evaluation
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.methods import METHODS, Method, methods_for
from rollingq_core.models.predictions import predict
from rollingq_core.plots import METHODS as LOOKS
from rollingq_core.plots import noise_curves
from rollingq_core.records import read_record
from rollingq_core.reproduce import RECIPES, Recipe, closing, reports
from rollingq_core.runs import train
from rollingq_core.runs.sweep import sweep
from rollingq_core.settings import SETTINGS
from rollingq_core.training import Observer
from tests.refused import Payload, refused
from tests.small import SETTING
from tests.test_balancing import arrays

# A method: its fusion layer, and what it does in training.


class SumFusion(nn.Module):
    """The sum of the modalities' mean tokens, and a classifier."""

    def __init__(self, dim, classes):
        super().__init__()
        self.dim, self.head = dim, nn.Linear(dim, classes)

    @classmethod
    def of_shape(cls, shape):
        return cls(shape.dim, shape.num_classes)

    def forward(self, tokens, key_padding_masks=None):
        masks = key_padding_masks or [None] * len(tokens)
        fused = sum(pooled(z, mask, "mean") for z, mask in zip(tokens, masks, strict=True))
        return FusionOutput(self.head(fused), fused)


class Halved(Observer):
    """Halves the gradients of the first modality's encoder, and tells how often."""

    name, batches = "halved", 0

    def on_gradients(self, model, output, labels):
        self.batches += 1
        for parameter in next(iter(model.encoders.values())).parameters():
            parameter.grad.mul_(0.5)

    def end_epoch(self, model, train):
        return {"halved": self.batches}


def halved(model, setting, seed, schedule):
    return [Halved()]


TOY_METHOD = Method("toy sum", SumFusion.of_shape, halved)

# A dataset: two modalities, of which the package knows one.


def touches(seed=0, samples=60):
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 3
    signal = np.eye(5)[labels][:, None]
    inputs = {
        "touch": 2 * signal + rng.normal(size=(samples, 4, 5)),
        "visual": signal + rng.normal(size=(samples, 2, 5)),
    }
    return from_arrays(inputs, labels, splits=(0.5, 0.2, 0.3), seed=seed, name="touches")


TOY_SOURCE = Source("what a hand feels and sees", touches)

# An evaluation: accuracy and confidence on the test split.


def confidence(model, dataset, favoured, seed=0):
    found = predict(model, dataset)
    sure = found.logits.softmax(dim=1).amax(dim=1)
    return {"accuracy": found.accuracy, "confidence": float(sure.mean()), "favoured": len(favoured)}


TOY_EVALUATION = Evaluation("how sure it is", confidence)

# Two recipes: of that evaluation, and of the noise that all methods go through.
TRAINED = ("mt", "concat", "toy", "unimodal-visual", "unimodal-audio")
TOY_RECIPE = Recipe("how sure they are", reports.Tested("toy-test"), TRAINED, table=closing.numbers)
NOISE_RECIPE = Recipe("under noise", reports.accuracies, ("mt", "toy"))


@pytest.fixture
def doors(monkeypatch):
    """One line a thing."""
    monkeypatch.setitem(METHODS, "toy", TOY_METHOD)
    monkeypatch.setitem(SOURCES, "touches", TOY_SOURCE)
    monkeypatch.setitem(EVALUATIONS, "toy-test", TOY_EVALUATION)
    monkeypatch.setitem(RECIPES, "toy-recipe", TOY_RECIPE)
    monkeypatch.setitem(RECIPES, "toy-noise", NOISE_RECIPE)
    # Not one of the things: a setting that trains in a moment.
    monkeypatch.setitem(SETTINGS, "T", SETTING)


def command(*arguments):
    main([str(argument) for argument in arguments])


def test_python_trains_the_method_on_the_dataset(doors):
    run = train("toy", "touches", setting="T", seed=2)
    assert isinstance(run.model.fusion, SumFusion)
    assert run.model.modalities == ("touch", "visual")
    assert run.favoured == "touch"
    assert [epoch.get("halved") for epoch in run.result.history] == [None, 1, 2, 3]
    assert run.events == []
    assert run.data.data_hash == touches(seed=2).data_hash
    known = train("mt+rollingq", "touches", setting="T")
    assert len(known.events) == 3
    told = EVALUATIONS["toy-test"](run.model, run.data.test, run.favoured, 0)
    assert 0 < told["confidence"] <= 1


def test_a_new_method_is_trained_on_the_datasets_there_are(doors):
    data = SOURCES["synthetic"].draw(train_samples=64, validation_samples=20, test_samples=20)
    run = train("toy", data, setting=SETTING)
    assert run.result.history[-1]["halved"] == 6  # two batches an epoch
    rows = sweep(
        "touches",
        SETTING,
        (0, 1),
        methods=("toy", "concat"),
        report=lambda method, seed, run: {"loss": run.result.history[-1]["train_loss"]},
        progress=False,
    )
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("toy", 0), ("concat", 0), ("toy", 1), ("concat", 1),
    ]  # fmt: skip
    alone = train("toy", "touches", setting=SETTING, seed=1)
    assert rows[2]["loss"] == alone.result.history[-1]["train_loss"]


def test_the_command_line_trains_and_tests(doors, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ("--data", "touches", "--method", "toy", "--profile", "smoke", "--epochs", 2)
    command("train", *options, "--out", folder)
    printed = capsys.readouterr().out
    assert "1/2" in printed
    assert printed.splitlines()[-1].startswith(str(folder / "checkpoint.pt"))
    described = json.loads((folder / "model.json").read_text())
    assert (described["data"], described["method"]) == ("touches", "toy")
    assert described["measured"]["shapes"] == {"touch": [4, 5], "visual": [2, 5]}

    for test in ("toy-test", "noise", "calibration"):
        command("evaluate", folder, "--test", test)
        *table, last = capsys.readouterr().out.splitlines()
        assert last == str(folder / f"{test}.json")
        (run,) = read_record(test, folder)["runs"]
        assert run["method"] == "toy"
        if test == "toy-test":
            shown = {line.split()[0]: float(line.split()[-1]) for line in table[-3:]}
            expected = {name: run[name] for name in ("accuracy", "confidence", "favoured")}
            assert shown == pytest.approx(expected, rel=1e-3)
        if test == "noise":
            assert any(line.startswith("mix touch") for line in table)
    assert "expected a fusion with attention" in refused(
        capsys, "evaluate", folder, "--test", "conflict"
    )


def test_a_stopped_run_of_a_new_method_goes_on(doors, tmp_path):
    options = ("--data", "touches", "--method", "toy", "--profile", "smoke", "--epochs", 2)
    command("train", *options, "--out", tmp_path / "whole")
    history = (tmp_path / "whole" / "history.json").read_text()
    (tmp_path / "whole" / "history.json").unlink()
    command("train", *options, "--out", tmp_path / "whole")
    assert (tmp_path / "whole" / "history.json").read_text() == history


# With two jobs, other processes do the work, which import the package anew.
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_recipe_writes_a_record_and_prints_its_table(jobs, doors, tmp_path, capsys):
    options = ("--data", "touches", "--setting", "T", "--seeds", 2, "--jobs", jobs)
    command("reproduce", "toy-recipe", *options, "--out", tmp_path)
    lines = capsys.readouterr().out.splitlines()
    name = "toy-recipe-touches-T"
    assert lines[-1] == str(tmp_path / f"{name}.json")
    record = read_record(name, tmp_path)
    assert record["recipe"] == "toy-recipe"
    methods = [method for method in TRAINED if method != "unimodal-audio"]  # which touch has not
    assert record["config"]["methods"] == methods
    assert [(run["seed"], run["method"]) for run in record["runs"]] == [
        (seed, method) for seed in (100, 101) for method in methods
    ]
    for run in record["runs"]:
        alone = train(run["method"], "touches", setting="T", seed=run["seed"])
        expected = confidence(alone.model, alone.data.test, alone.favoured)
        assert run["confidence"] == pytest.approx(expected["confidence"], rel=1e-4)

    header, *rows = lines[: len(methods) + 1]
    assert header.split() == ["accuracy", "confidence", "favoured"]
    (row,) = (line for line in rows if line.startswith("toy sum"))
    own = [run["confidence"] for run in record["runs"] if run["method"] == "toy"]
    assert f"{np.mean(own):.3f} ± {np.std(own, ddof=1):.3f}" in row
    assert lines[-2] == "The test's numbers: mean ± sd over 2 seeds."


def test_the_figure_is_drawn_from_the_record(doors, tmp_path, capsys):
    options = ("--data", "touches", "--setting", "T", "--seeds", 3, "--jobs", 1)
    command("reproduce", "toy-noise", *options, "--out", tmp_path)
    printed = capsys.readouterr().out
    assert "toy sum − vanilla" in printed
    record = read_record("toy-noise-touches-T", tmp_path)
    drawn = noise_curves(record["runs"], record["levels"], ("mt", "toy"), "A toy", where="touch")
    (axis,) = drawn.axes
    assert axis.get_legend_handles_labels()[1] == ["vanilla", "toy sum"]
    assert axis.get_xlabel() == "noise level in touch"
    curves = [container.lines[0].get_ydata() for container in axis.containers]
    for method, curve in zip(("mt", "toy"), curves, strict=True):
        runs = [run["accuracy"] for run in record["runs"] if run["method"] == method]
        assert curve.tolist() == pytest.approx((100 * np.mean(runs, axis=0)).tolist())
    assert LOOKS["toy"]["label"] == "toy sum"
    assert LOOKS["toy"]["marker"] not in {
        LOOKS[name]["marker"] for name in METHODS if name != "toy"
    }


def test_help_and_refusals_name_the_new_things(doors, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "500")  # so that no name is cut at its hyphen
    for asked, word in (("train", "touches"), ("evaluate", "toy-test, how sure it is")):
        with pytest.raises(SystemExit):
            command(asked, "--help")
        assert word in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        command("reproduce", "--help")
    assert "toy-recipe, how sure they are" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ValueError, match=r"name: got 'touchez', expected one of .*'touches'"):
        train("toy", "touchez")
    with pytest.raises(ValueError, match=r"method: got 'toi', expected one of .*'toy'"):
        train("toi", "touches")


def test_without_the_line_nothing_is_there():
    assert "toy" not in METHODS
    assert "touches" not in SOURCES
    assert "toy-test" not in EVALUATIONS
    assert "toy-recipe" not in RECIPES
    assert "toy" not in LOOKS


# A reader's own file

SMOKED = ("--profile", "smoke")
THREE = ("audio", "visual", "text")


def write_file(path, seed=0):
    given = arrays(seed=seed)
    masks = {f"{name}_padding": mask for name, mask in given["masks"].items()}
    np.savez(path, **given["inputs"], **masks, labels=given["labels"])
    return path


@pytest.fixture
def file(tmp_path):
    return write_file(tmp_path / "three.npz")


@pytest.mark.parametrize("method", methods_for(THREE))
def test_every_method_trains_on_a_file_of_three_modalities(method, file, tmp_path, capsys):
    folder = tmp_path / "run"
    command("train", "--data", file, "--method", method, *SMOKED, "--out", folder)
    assert str(folder / "checkpoint.pt") in capsys.readouterr().out.splitlines()[-1]
    described = json.loads((folder / "model.json").read_text())
    assert described["data"] == str(file)
    measured = described["measured"]
    assert measured["file_sha256"] == sha256_file(file)
    assert list(measured["shapes"]) == list(THREE)
    assert measured["classes"] == ["0", "1", "2", "3"]
    command("evaluate", folder, "--test", "calibration")
    *table, last = capsys.readouterr().out.splitlines()
    assert last == str(folder / "calibration.json")
    assert [line.split()[0] for line in table[-3:]] == ["noise", "accuracy", "ece"]
    assert read_record("calibration", folder)["runs"][0]["method"] == method


@pytest.mark.parametrize("test", ["noise", "correlation", "conflict"])
def test_a_model_of_a_file_goes_through_every_test(test, file, tmp_path, capsys):
    folder = tmp_path / "run"
    command("train", "--data", file, *SMOKED, "--out", folder)
    command("evaluate", folder, "--test", test)
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / f"{test}.json")
    (run,) = read_record(test, folder)["runs"]
    if test == "noise":
        assert [name for name in run if name.startswith("mix ")] == [
            "mix audio", "mix visual", "mix text", "mix all",
        ]  # fmt: skip
    if test == "conflict":
        assert set(run["follows"]) == set(THREE)


def test_another_file_of_the_same_shapes_may_test(file, tmp_path, capsys):
    folder, other = tmp_path / "run", write_file(tmp_path / "other.npz", seed=1)
    command("train", "--data", file, *SMOKED, "--out", folder)
    command("evaluate", folder, "--test", "calibration", "--data", other)
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "calibration-other.json")


def test_a_file_that_changed_is_refused_in_one_line(file, tmp_path, capsys):
    folder = tmp_path / "run"
    command("train", "--data", file, *SMOKED, "--out", folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_file(file, seed=1)
    message = refused(capsys, "evaluate", folder, "--test", "noise")
    assert str(file) in message
    known = json.loads(before["model.json"])["measured"]["file_sha256"]
    assert known in message
    assert "is of data_hash" in refused(capsys, "train", "--data", file, *SMOKED, "--out", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def objects(path, target, name):
    """An array of objects, which numpy would unpickle if it were let to."""
    plain = np.load(path)
    parts = {one: plain[one] for one in plain.files}
    payload = np.empty(len(parts["labels"]), dtype=object)
    payload[:] = Payload(target)
    np.savez(path, **{**parts, name: payload})


def bare(path, target):
    path.write_bytes(pickle.dumps(Payload(target)))


def bare_in_archive(path, target):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("smell", pickle.dumps(Payload(target)))


def saved_by_torch(path, target):
    torch.save({"audio": Payload(target)}, path)


def header(path, target):
    """An array whose description is code."""
    content = f"__import__('os').mkdir({str(target)!r})".ljust(117).encode() + b"\n"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "smell.npy", b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content
        )


@pytest.mark.parametrize(
    "attack",
    [
        partial(objects, name="audio"),
        partial(objects, name="labels"),
        partial(objects, name="audio_padding"),
        partial(objects, name="classes"),
        bare,
        bare_in_archive,
        saved_by_torch,
        header,
    ],
    ids=["audio", "labels", "mask", "classes", "pickle", "in archive", "torch", "header"],
)
def test_a_payload_in_a_file_is_refused_and_not_run(attack, file, tmp_path, capsys):
    target, folder = tmp_path / "executed", tmp_path / "run"
    command("train", "--data", file, *SMOKED, "--out", folder)
    attack(file, target)
    for arguments in (
        ("train", "--data", file, *SMOKED, "--out", tmp_path / "new"),
        ("evaluate", folder, "--test", "noise"),
        ("evaluate", folder, "--test", "noise", "--data", file),
    ):
        assert str(file) in refused(capsys, *arguments)
    assert not target.exists()
    assert not (tmp_path / "new").exists() or not [*(tmp_path / "new").iterdir()]


def test_the_payload_would_run(file, tmp_path):
    target = tmp_path / "executed"
    objects(file, target, "audio")
    np.load(file, allow_pickle=True)["audio"]
    assert target.exists()


TEXT = np.array(["a", "b"] * 5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"inputs": {"audio": TEXT[:, None]}}, r"inputs\['audio'\]: got no numbers"),
        ({"labels": TEXT}, "labels: got ndarray, expected integers"),
        ({"masks": {"audio": TEXT[:, None]}}, r"masks\['audio'\]: got ndarray, expected bool"),
        ({"splits": (TEXT[:8], [8], [9])}, r"splits\['train'\]: got no integers"),
    ],
    ids=["inputs", "labels", "masks", "splits"],
)
def test_text_where_numbers_are_expected_is_named(changed, message):
    given = {"inputs": {"audio": np.zeros((10, 3))}, "labels": np.arange(10) % 2}
    with pytest.raises(ValueError, match=message):
        from_arrays(**(given | changed))


def test_a_file_that_is_not_there_is_one_line(tmp_path, capsys):
    path = tmp_path / "none.npz"
    message = refused(capsys, "train", "--data", path, *SMOKED, "--out", tmp_path / "run")
    assert str(path) in message


class Normed(SumFusion):
    """Keeps statistics of a batch, which a batch of models would mix or leave out."""

    def __init__(self, dim, classes):
        super().__init__(dim, classes)
        self.head = nn.Sequential(nn.BatchNorm1d(dim), nn.Linear(dim, classes))


class Pulled(Rolling):
    """RollingQ, and a loss of its own."""

    def extra_loss(self, output, labels):
        return output.fusion.fused.square().mean()


def pulled(model, setting, seed, schedule):
    return [Pulled(RollingQ(model.fusion, setting.rho, setting.beta, setting.max_rotations))]


@pytest.mark.parametrize(
    "method",
    [Method("normed", Normed.of_shape), Method("pulled", observers=pulled)],
    ids=["fusion", "observer"],
)
def test_a_sweep_trains_what_cannot_be_stacked_as_train_does(method, doors, monkeypatch):
    monkeypatch.setitem(METHODS, "own", method)

    def loss(name, seed, run):
        return {"loss": run.result.history[-1]["train_loss"]}

    rows = sweep("touches", SETTING, [0, 1], methods=["own"], report=loss, progress=False)
    for row in rows:
        alone = train("own", "touches", setting=SETTING, seed=row["seed"])
        assert row["loss"] == alone.result.history[-1]["train_loss"]


class Gated(SumFusion):
    """Tells how much each modality weighs, and has no query."""

    def forward(self, tokens, key_padding_masks=None):
        output = super().forward(tokens, key_padding_masks)
        share = torch.full((len(tokens[0]), len(tokens)), 1 / len(tokens))
        return output._replace(share=share)


def test_a_fusion_may_tell_shares_without_a_query(doors, monkeypatch):
    monkeypatch.setitem(METHODS, "gated", Method("gated", Gated.of_shape))
    run = train("gated", "touches", setting=SETTING)
    told = predict(run.model, run.data.test)
    assert told.share.shape == (len(run.data.test), 2)
    assert told.cosines is told.query is None
    assert EVALUATIONS["conflict"](run.model, run.data.test, "touch", 0)["share"]


def test_an_observer_beside_the_methods_own(doors):
    halved_too = train("mt", "touches", setting=SETTING, observers=[Halved()]).result.history
    assert halved_too[-1]["halved"] > 0
