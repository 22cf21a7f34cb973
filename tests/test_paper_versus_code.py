"""The table of chapter 6 that sets paper, published code and book side by side."""

import ast
import re
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from rollingq_core import AttentionFusion, RollingQ
from rollingq_core.settings import SETTINGS, TrainingConfig

ROOT = Path(__file__).parents[1]
CHAPTER = ROOT / "notebooks" / "06_open_questions.py"
HEADER = "# | topic | paper | published code | this book |"
LIST = "# ```{dropdown} The tests of each row"


def lines_after(first: str, prefix: str) -> list[str]:
    lines = CHAPTER.read_text(encoding="utf-8").splitlines()
    return list(takewhile(lambda line: line.startswith(prefix), lines[lines.index(first) + 1 :]))


def table_rows() -> list[list[str]]:
    rows = lines_after(HEADER, "# |")[1:]
    return [[cell.strip() for cell in row[1:].strip().strip("|").split(" | ")] for row in rows]


def listed_tests() -> list[list[str]]:
    return [line.removeprefix("# - ").split(": ", 1) for line in lines_after(LIST, "# - ")]


def named_tests(cell: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/test_\w+\.py)::(test_\w+)`", cell)


def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_table_is_read():
    assert len(table_rows()) >= 26
    assert {len(row) for row in table_rows()} == {4}
    assert [topic for topic, _ in listed_tests()] == [row[0] for row in table_rows()]


@pytest.mark.parametrize("row", listed_tests(), ids=lambda row: row[0])
def test_each_row_names_tests_that_exist(row):
    found = named_tests(row[-1])
    assert found
    # Nothing in the cell but names of that form: a misspelt one is not passed over.
    assert len(found) == row[-1].count(",") + 1 == row[-1].count("::")
    for file, name in found:
        assert (ROOT / file).is_file(), file
        assert name in functions_of(file), f"{file}::{name}"


def test_a_rotation_leaves_the_optimisers_buffers_alone():
    torch.manual_seed(0)
    layer = AttentionFusion(8, 3, cls_std=1.0)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    output = layer([torch.randn(4, 3, 8) + 1, torch.randn(4, 3, 8)])
    cross_entropy(output.logits, torch.tensor([0, 1, 2, 0])).backward()
    optimiser.step()
    buffers = [optimiser.state[p]["momentum_buffer"] for p in layer.parameters()]
    before = [buffer.clone() for buffer in buffers]
    assert any(buffer.abs().max() > 0 for buffer in buffers)
    rolling = RollingQ(layer, rho=3, beta=0, max_rotations=1)
    rolling.observe(output)
    assert rolling.end_epoch() is not None
    after = [optimiser.state[p]["momentum_buffer"] for p in layer.parameters()]
    assert all(map(torch.equal, after, before))


def test_a_float32_determinant_sees_no_reflection():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(768, 768, generator=generator)).Q
    if torch.linalg.slogdet(basis).sign > 0:
        basis[:, 0] = -basis[:, 0]
    assert torch.linalg.slogdet(basis).sign == -1
    assert not torch.det(basis) < 0


def test_the_epochs_that_settings_and_recipe_report():
    assert {setting.training.selection for setting in SETTINGS.values()} == {"last"}
    assert TrainingConfig().selection == "best"
