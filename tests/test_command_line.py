"""The command line: what it asks for, what it refuses, and its help."""

import runpy
import sys

import pytest

from rollingq_core.__main__ import main
from rollingq_core.reproduce import comparison, grid, regimes


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
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["train"], "invalid choice: 'train'"),
        (["reproduce"], "the following arguments are required: recipe"),
        (["reproduce", "table9"], "argument recipe: invalid choice: 'table9'"),
        (["reproduce", "grid", "table2"], "recipe: got grid table2, expected grid alone"),
        (["reproduce", "comparison", "--data", "movies"], "argument --data: invalid choice"),
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


def test_run_as_a_module_its_help_shows_an_example(root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rollingq", "reproduce", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(root / "rollingq_core" / "__main__.py"), run_name="__main__")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "example: python -m rollingq_core reproduce comparison" in text
