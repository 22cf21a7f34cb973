"""The command line: what it asks for, what it refuses, and its help."""

import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import rollingq_core
from benchmarks.cremad_folder import clip_names, make_folder
from rollingq_core.__main__ import main
from rollingq_core.data import SOURCES, load_dataset
from rollingq_core.evaluation import EVALUATIONS
from rollingq_core.methods import METHODS
from rollingq_core.reproduce import RECIPES, comparison
from rollingq_core.tables import Table
from tests.refused import refused


def shown(record):
    """A small table, which names its record's recipe."""
    return Table(["", "seeds"], [[record["recipe"], "12"]], "The caption.")


def printed(name, path):
    """What is printed of a record: the table above, and where the record lies."""
    return f"{' ' * len(name)}  seeds\n{name}     12\nThe caption.\n{path}\n"


def watched(monkeypatch, *names):
    """Replace what recipes do by a note of what they are asked, and their tables by a short one."""
    calls = []

    def compute(*arguments, **options):
        calls.append((arguments, options))
        return {"recipe": names[0]}

    def from_runs(recipes, *arguments, **options):
        calls.append(((recipes, *arguments), options))
        return {recipe: {"recipe": recipe} for recipe in recipes}

    monkeypatch.setattr(comparison, "reproduce", from_runs)
    for name in names:
        recipe = RECIPES[name]
        own = compute if recipe.compute else None
        monkeypatch.setitem(RECIPES, name, replace(recipe, compute=own, table=shown))
    return calls


def test_command_line_writes_the_records(monkeypatch, tmp_path, capsys):
    recipes = ("comparison", "table2")
    asked = watched(monkeypatch, *recipes)
    main(["reproduce", *recipes, "--data", "synthetic", "--setting", "T",
          "--seeds", "3", "--jobs", "1", "--out", str(tmp_path)])  # fmt: skip
    expected = ((recipes, "synthetic", "T", (100, 101, 102)), {"out": tmp_path, "jobs": 1})
    assert asked == [expected]
    assert capsys.readouterr().out == "".join(
        printed(recipe, tmp_path / f"{recipe}-synthetic-T.json") for recipe in recipes
    )


def test_the_books_own_record_is_what_no_option_asks_for(monkeypatch, capsys):
    asked = watched(monkeypatch, "comparison")
    main(["reproduce", "comparison", "comparison"])
    seeds = tuple(range(100, 112))
    assert asked == [((("comparison",), "digits", "P", seeds), {"out": Path("results"), "jobs": 2})]
    assert capsys.readouterr().out == printed("comparison", "results/comparison-digits-P.json")


@pytest.mark.parametrize(
    ("arguments", "seeds"),
    [
        (["grid"], (0, 1, 2, 3, 4)),
        (["grid", "--seeds", "2"], (0, 1)),
        (["regimes"], tuple(range(100, 112))),
    ],
)
def test_recipes_of_setting_t_write_their_record(arguments, seeds, monkeypatch, tmp_path, capsys):
    asked = watched(monkeypatch, arguments[0])
    main(["reproduce", *arguments, "--out", str(tmp_path)])
    path = tmp_path / f"{arguments[0]}-synthetic-T.json"
    assert asked == [((seeds,), {"out": path, "jobs": 2})]
    assert capsys.readouterr().out == printed(arguments[0], path)


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], ("avmnist_full", "gpu", (100, 101, 102, 103, 104))),
        (
            ["--data", "cremad", "--profile", "cpu", "--seeds", "2"],
            ("cremad", "cpu", (100, 101)),
        ),
    ],
)
def test_scale_takes_a_profile(arguments, asked, monkeypatch, tmp_path, capsys):
    calls = watched(monkeypatch, "scale")
    main(["reproduce", "scale", *arguments, "--precision", "bf16-mixed", "--out", str(tmp_path)])
    path = tmp_path / f"scale-{asked[0]}-{asked[1]}.json"
    assert calls == [(asked, {"out": path, "jobs": 1, "precision": "bf16-mixed"})]
    assert capsys.readouterr().out == printed("scale", path)


def test_a_readers_own_file_is_named_after_itself(monkeypatch, tmp_path, capsys):
    asked = watched(monkeypatch, "table1")
    file = tmp_path / "mine.npz"
    main(["reproduce", "table1", "--data", str(file), "--seeds", "1", "--out", str(tmp_path)])
    assert asked == [((("table1",), str(file), "P", (100,)), {"out": tmp_path, "jobs": 2})]
    assert capsys.readouterr().out == printed("table1", tmp_path / "table1-mine-P.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["sing"], "invalid choice: 'sing'"),
        (["train"], "the following arguments are required: --out"),
        (["train", "--out", "x", "--method", "magic"], "argument --method: invalid choice"),
        (["train", "--out", "x", "--profile", "huge"], "argument --profile: invalid choice"),
        (["evaluate", "x"], "the following arguments are required: --test"),
        (["evaluate", "x", "--test", "table9"], "argument --test: invalid choice: 'table9'"),
        (["reproduce"], "the following arguments are required: recipe"),
        (["reproduce", "table12"], "argument recipe: invalid choice: 'table12'"),
        (["reproduce", "grid", "table2"], "recipe: got grid table2, expected grid alone"),
        (["reproduce", "comparison", "--data", "movies"], "argument --data: got 'movies', expect"),
        (["train", "--out", "x", "--data", "movies.np"], "argument --data: got 'movies.np', expe"),
        (["reproduce", "table2", "--data", "cremad"], "got 'cremad' for table2, expected scale"),
        (["reproduce", "scale", "table2"], "recipe: got scale table2, expected scale alone"),
        (["reproduce", "scale", "--setting", "P"], "--setting: got one for scale, which has none"),
        (["reproduce", "grid", "--data", "digits"], "--data: got one for grid, which has none"),
        (["reproduce", "table2", "--profile", "gpu"], "--profile: got one for table2"),
        (["reproduce", "grid", "--precision", "32"], "--precision: got one for grid"),
        (["data"], "the following arguments are required: action"),
        (["data", "prepare"], "dataset: got none to prepare, expected one of cremad"),
        (["data", "verify"], "dataset: got none to verify, expected one of cremad"),
        (["methods", "mt"], "unrecognized arguments: mt"),
        (["data", "prepare", "movies"], "argument dataset: invalid choice: 'movies'"),
        (["data", "mend", "cremad"], "argument action: invalid choice: 'mend'"),
        (["data", "prepare", "cremad", "--audio", "x"], "argument --audio: invalid choice: 'x'"),
        (["reproduce", "comparison", "--setting", "X"], "argument --setting: invalid choice"),
        (["reproduce", "comparison", "--seeds", "many"], "argument --seeds: invalid int value"),
        (["reproduce", "comparison", "--seeds", "0"], "--seeds: got 0, expected at least 1"),
        (["reproduce", "comparison", "--jobs", "0"], "--jobs: got 0, expected at least 1"),
    ],
)
def test_bad_arguments_end_with_code_2_and_a_clear_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(comparison, "reproduce", None)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in last


@pytest.fixture
def cremad_root(tmp_path):
    return make_folder(tmp_path / "CREMA-D", clip_names(12), size=(36, 48))


def test_cremad_is_verified_prepared_and_read(cremad_root, capsys):
    main(["data", "verify", "cremad", "--root", str(cremad_root)])
    assert capsys.readouterr().out.splitlines()[-1] == "ok"
    main(["data", "prepare", "cremad", "--root", str(cremad_root), "--audio", "paper"])
    assert capsys.readouterr().out == f"{cremad_root / 'cache' / 'cremad-paper'}\n"
    data = load_dataset("cremad", root=cremad_root, audio="paper")
    assert data.test[0][0]["audio"].shape == (1, 257, 299)


def test_verify_of_a_damaged_folder_ends_with_code_1(cremad_root, capsys):
    next((cremad_root / "AudioWAV").iterdir()).write_bytes(b"no sound")
    with pytest.raises(SystemExit) as stop:
        main(["data", "verify", "cremad", "--root", str(cremad_root)])
    assert stop.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert "damaged: 1" in lines
    assert lines[-1] == "not ok"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--root", "nowhere"], "nowhere has no folder VideoFlash. CREMA-D can't be fetched"),
        (["--jobs", "0"], "jobs: got 0, expected an integer of at least 1"),
    ],
)
@pytest.mark.parametrize("action", ["prepare", "verify"])
def test_an_expected_error_is_one_line_and_code_1(
    action, options, message, cremad_root, monkeypatch, capsys
):
    monkeypatch.setenv("ROLLINGQ_DATA", str(cremad_root.parent))
    with pytest.raises(SystemExit) as stop:
        main(["data", action, "cremad", *options])
    assert stop.value.code == 1
    written = capsys.readouterr().err.splitlines()
    assert len(written) == 1
    assert written[0].startswith("rollingq: ")
    assert message in written[0]
    assert not list(cremad_root.parent.rglob("manifest.json"))


def test_help_of_data_says_what_it_needs_and_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", "--help"])
    assert stop.value.code == 0
    text = "".join(capsys.readouterr().out.split())
    for part in (
        "example: python -m rollingq_core data prepare cremad --root CREMA-D",
        "https://github.com/CheyneyComputerScience/CREMA-D",
        "https://github.com/GeWu-Lab/OGM-GE_CVPR2022",
        "AudioWAV/<clip>.wav",
    ):
        assert part.replace(" ", "") in text


EXAMPLES = {
    "train": "--data digits --method mt mt+rollingq --seeds 5 --profile cpu --out runs/digits",
    "evaluate": "runs/digits --test noise",
    "reproduce": "comparison",
    "methods": "",
}


@pytest.mark.parametrize("command", EXAMPLES)
def test_run_as_a_module_its_help_shows_an_example(command, root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rollingq", command, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(root / "rollingq_core" / "__main__.py"), run_name="__main__")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"example: python -m rollingq_core {command} {EXAMPLES[command]}".strip() in text


def test_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"rollingq {rollingq_core.__version__}\n"


def test_methods_are_listed_with_what_they_need(capsys):
    main(["methods"])
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["method", "called", "modalities"]
    assert [row.split()[0] for row in rows] == [*METHODS]
    for row, method in zip(rows, METHODS.values(), strict=True):
        assert method.label in row
        assert row.split()[-1] == ", ".join(method.modalities or ["all"])


def test_data_is_listed_with_a_readers_own(capsys):
    main(["data", "list"])
    header, *rows, own = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "data"
    assert [row.split()[0] for row in rows] == [*SOURCES]
    for row, source in zip(rows, SOURCES.values(), strict=True):
        assert row.endswith(source.about)
    assert own.startswith("FILE.npz holds arrays")


def test_recipes_of_different_methods_are_one_line(tmp_path, capsys):
    said = refused(capsys, "reproduce", "table1", "table2", "--out", tmp_path)
    assert said.startswith("rollingq: recipes: got ['table1', 'table2'], which train different")
    assert not list(tmp_path.iterdir())


def test_help_tells_every_name(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "5000")  # no name is cut at its hyphen
    said = {}
    for command in ("train", "evaluate", "reproduce"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said[command] = " ".join(capsys.readouterr().out.split())
    assert ", ".join(METHODS) in said["train"]
    for text in said.values():
        assert ", ".join(SOURCES) in text
    for name, test in EVALUATIONS.items():
        assert f"{name}, {test.about}" in said["evaluate"]
    for name, recipe in RECIPES.items():
        assert f"{name}, {recipe.about}" in said["reproduce"]


def test_an_epoch_in_which_no_sample_had_every_modality_is_told():
    from rollingq_core.commands.train import HEADING, line

    titles = ["epoch", "stage", "loss, nats", "validation, %", "AIR", "turn, degrees"]
    assert [one.strip() for one in re.split(r"  +", HEADING.strip())] == titles
    record = {"epoch": 0, "stage": "fusion", "train_loss": 1.0, "validation_accuracy": 0.5}
    seen = record | {"air": -0.25, "rotation": {"angle": 0.5}}
    rows = {
        "no sample": (record | {"air": None, "rotation": None}, "1/3 fusion 1.0000 50.00 - -"),
        "turned": (seen, "1/3 fusion 1.0000 50.00 -0.2500 28.6"),
        "not turned": (seen | {"rotation": None}, "1/3 fusion 1.0000 50.00 -0.2500 -"),
        "static fusion": (record, "1/3 fusion 1.0000 50.00 - -"),
        "pretraining": (
            {"epoch": 1, "stage": "pretraining", "train_loss": 2.0},
            "2/3 pretraining 2.0000 - - -",
        ),
    }
    for name, (one, expected) in rows.items():
        found = line(one, total=3)
        assert found.split() == expected.split(), name
        # Each number ends under its title.
        assert len(found) == len(HEADING)
