"""README's own lines work as they stand, and so do those of the package's reference."""

import re

import pytest
import torch

from rollingq_core.data import SOURCES
from rollingq_core.evaluation import EVALUATIONS
from rollingq_core.methods import METHODS
from rollingq_core.reproduce import RECIPES
from rollingq_core.runs import train
from tests.small import SETTING, small_data
from tests.test_packaging import run_with


@pytest.fixture(scope="module")
def blocks(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def snippet(blocks):
    return blocks[0]


def test_rollingq_goes_into_a_layer_of_ones_own_in_five_lines_and_an_import(snippet):
    assert [int(n) for n in re.findall(r"  # (\d)\b", snippet)] == [1, 2, 3, 4, 5]
    added = [line for line in snippet.splitlines() if re.search("rolling|rotation", line, re.I)]
    imports = [line for line in added if line.startswith("from rollingq_core import")]
    assert len(imports) == 1
    assert all(re.search(r"  # \d\b", line) for line in added if line not in imports)


def test_the_snippet_runs_with_torch_alone_turns_once_and_saves_all_of_it(snippet, root, tmp_path):
    snippet = snippet.replace('"model.pt"', repr(str(tmp_path / "model.pt")))
    printed = run_with(root, ["torch"], snippet)
    assert [line.split("(")[0] for line in printed.split("\n")[:3]] == [
        "None",
        "None",
        "RotationEvent",
    ]
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    schedule = {name: int(state[f"rotation.{name}"]) for name in ("count", "epoch")}
    assert schedule == {"count": 1, "epoch": 3}
    assert int(state["rotation.last_rotation"]) == 2


def test_parameters_keep_the_names_that_they_had_without_rollingq(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippet, names)
    without = {"cls", "head.weight", "head.bias"}
    without |= {f"{layer}.{part}" for layer in "qkv" for part in ("weight", "bias")}
    assert {name for name, _ in names["model"].named_parameters()} == without


def test_validation_is_not_observed(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippet, names)
    model = names["model"]
    model.eval()
    model(torch.randn(2, 7, 32), torch.randn(2, 9, 32))
    model.rolling.end_epoch()
    assert model.rolling.last is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["lightning.pytorch", "transformers"])
def test_a_librarys_trainer_takes_its_callback(blocks, snippet, library, tmp_path, monkeypatch):
    pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in blocks if library in block]
    names = {}
    exec(snippet, names)
    if library == "transformers":
        pytest.importorskip("accelerate")
    exec(f"import {library}\n{block}", names)
    found = [type(c).__name__ for c in getattr(names["trainer"], "callbacks", ())]
    handler = getattr(names["trainer"], "callback_handler", None)
    found += [type(c).__name__ for c in getattr(handler, "callbacks", ())]
    assert "RollingQCallback" in found


def test_an_experiment_of_ones_own_runs(blocks, capsys):
    (block,) = [block for block in blocks if "from_arrays" in block]
    names = {}
    exec(block, names)
    assert len(names["run"].result.history) == 30
    assert names["run"].events
    accuracy, auroc = capsys.readouterr().out.splitlines()
    assert 0 <= float(accuracy.split()[0]) <= 1
    assert 0 <= float(auroc) <= 1


@pytest.fixture(scope="module")
def reference(root):
    return (root / "book" / "api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("rollingq_core.methods.METHODS", METHODS),
        ("rollingq_core.data.SOURCES", SOURCES),
        ("rollingq_core.evaluation.EVALUATIONS", EVALUATIONS),
        ("rollingq_core.reproduce.RECIPES", RECIPES),
    ],
)
def test_the_reference_has_every_line_of_every_table(reference, name, table):
    (row,) = [line for line in reference.splitlines() if line.startswith(f"| `{name}` |")]
    assert re.findall(r"`([\w+-]+)`", row.split("|")[3]) == list(table)


def test_a_method_of_ones_own_is_trained_by_its_name(reference, monkeypatch):
    (block,) = [
        b for b in re.findall(r"```python\n(.*?)```", reference, re.DOTALL) if "Doubled" in b
    ]
    names = {}
    monkeypatch.setitem(METHODS, "mt+doubled", None)  # taken out again in the end
    exec(block, names)
    data = small_data()
    plain, doubled = (train(name, data, setting=SETTING) for name in ("mt", "mt+doubled"))
    first = [run.result.history[1]["gradient_norm"] for run in (plain, doubled)]
    assert doubled.result.history[0] == plain.result.history[0]  # of pretraining
    assert first[1]["visual"] > 1.5 * first[0]["visual"]
