"""The command line: what it asks for, what it refuses, and its help."""

import runpy
import sys

import pytest

from benchmarks.cremad_folder import clip_names, make_folder
from rollingq_core.__main__ import main
from rollingq_core.data import load_dataset
from rollingq_core.reproduce import comparison, grid, regimes, scale


def test_command_line_writes_the_records(monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(comparison, "reproduce", lambda *a, **k: asked.append((a, k)))
    main(["reproduce", "comparison", "table2", "--data", "synthetic", "--setting", "T",
          "--seeds", "3", "--jobs", "1", "--out", str(tmp_path)])  # fmt: skip
    recipes = ("comparison", "table2")
    expected = ((recipes, "synthetic", "T", (100, 101, 102)), {"out": tmp_path, "jobs": 1})
    assert asked == [expected]
    paths = [tmp_path / f"{recipe}-synthetic-T.json" for recipe in recipes]
    assert capsys.readouterr().out == "".join(f"{path}\n" for path in paths)


@pytest.mark.parametrize(
    ("arguments", "seeds"),
    [
        (["grid"], (0, 1, 2, 3, 4)),
        (["grid", "--seeds", "2"], (0, 1)),
        (["regimes"], tuple(range(100, 112))),
    ],
)
def test_recipes_of_setting_t_write_their_record(arguments, seeds, monkeypatch, tmp_path, capsys):
    asked = []
    recipe = {"grid": grid, "regimes": regimes}[arguments[0]]
    monkeypatch.setattr(recipe, "reproduce", lambda *a, **k: asked.append((a, k)))
    main(["reproduce", *arguments, "--out", str(tmp_path)])
    path = tmp_path / f"{arguments[0]}-synthetic-T.json"
    assert asked == [((seeds,), {"out": path, "jobs": 2})]
    assert capsys.readouterr().out == f"{path}\n"


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
    calls = []
    monkeypatch.setattr(scale, "reproduce", lambda *a, **k: calls.append((a, k)))
    main(["reproduce", "scale", *arguments, "--precision", "bf16-mixed", "--out", str(tmp_path)])
    path = tmp_path / f"scale-{asked[0]}-{asked[1]}.json"
    assert calls == [(asked, {"out": path, "jobs": 1, "precision": "bf16-mixed"})]
    assert capsys.readouterr().out == f"{path}\n"


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
        (["reproduce", "table9"], "argument recipe: invalid choice: 'table9'"),
        (["reproduce", "grid", "table2"], "recipe: got grid table2, expected grid alone"),
        (["reproduce", "comparison", "--data", "movies"], "argument --data: invalid choice"),
        (["reproduce", "table2", "--data", "cremad"], "got 'cremad' for table2, expected scale"),
        (["reproduce", "scale", "table2"], "recipe: got scale table2, expected scale alone"),
        (["reproduce", "scale", "--setting", "P"], "--setting: got one for scale, which has none"),
        (["reproduce", "grid", "--data", "digits"], "--data: got one for grid, which has none"),
        (["reproduce", "table2", "--profile", "gpu"], "--profile: got one for table2"),
        (["reproduce", "grid", "--precision", "32"], "--precision: got one for grid"),
        (["data"], "the following arguments are required: action, dataset"),
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
    "train": "--data digits --method mt+rollingq --profile cpu --out runs/digits",
    "evaluate": "runs/digits --test noise",
    "reproduce": "comparison",
}


@pytest.mark.parametrize("command", EXAMPLES)
def test_run_as_a_module_its_help_shows_an_example(command, root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rollingq", command, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(root / "rollingq_core" / "__main__.py"), run_name="__main__")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"example: python -m rollingq_core {command} {EXAMPLES[command]}" in text


def test_an_epoch_in_which_no_sample_had_every_modality_is_told():
    from rollingq_core.commands.train import line

    record = {"epoch": 0, "stage": "fusion", "train_loss": 1.0, "validation_accuracy": 0.5}
    unseen = line(record | {"air": None, "rotation": None}, total=3)
    assert unseen == "epoch 1/3 fusion: loss 1.0000, validation accuracy 0.5000"
    turned = line(record | {"air": -0.25, "rotation": {"angle": 0.5}}, total=3)
    assert turned == f"{unseen}, AIR -0.2500, query turned by 28.6 degrees"
