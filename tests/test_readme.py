"""README's own lines work as they stand."""

import re

import pytest
import torch

from tests.test_packaging import run_with_torch_only


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
    printed = run_with_torch_only(root, snippet)
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
