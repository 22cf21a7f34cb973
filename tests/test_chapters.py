"""The frame and the exercises that every chapter has; test_equations.py has the numbers."""

import re
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
# Chapters that have the frame.
NOTEBOOKS = ROOT / "notebooks"
FRAMED = sorted([*NOTEBOOKS.glob("0[1-9]_*.py"), *NOTEBOOKS.glob("1[046]_*.py")])
HEADINGS = ["What to conclude, and what not", "Exercises", "Summary", "Further reading"]


@pytest.fixture(params=FRAMED, ids=lambda path: path.stem)
def script(request):
    return request.param


@pytest.fixture
def cells(script):
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4).cells


def prose(path):
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(c.source for c in jupytext.read(path).cells if c.cell_type == "markdown")


def test_chapter_begins_with_a_recap_and_ends_as_all_do(script):
    text = prose(script)
    recap = re.search(r"\*\*Recap\.\*\* (.*?)\n\n\*\*The question\.\*\*", text, flags=re.DOTALL)
    assert recap, "no recap before the question"
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings[-len(HEADINGS) :] == HEADINGS


def test_at_least_four_exercises_two_of_them_solved_in_code_that_ran(cells):
    exercises, solved, inside = [], [], None
    for cell in cells:
        if cell.cell_type == "code":
            if inside is not None:
                inside.extend(cell.outputs)
            continue
        exercises += re.findall(r"\{exercise\}.*\n:label: (\S+)", cell.source)
        for start, end in re.findall(r"(\{solution-start\})|(\{solution-end\})", cell.source):
            if end:
                solved.append(inside)
            inside = [] if start else None
    assert len(exercises) == len(set(exercises)) >= 4
    assert len(solved) >= 2
    assert all(solved), "a solution in code shows no output"


def test_every_exercise_has_a_solution(script):
    text = prose(script)
    exercises = re.findall(r"\{exercise\}.*\n:label: (\S+)", text)
    assert sorted(re.findall(r"\{solution(?:-start)?\} (\S+)", text)) == sorted(exercises)


def test_no_checked_cell_prints_a_bare_truth(cells):
    for cell in cells:
        if cell.cell_type == "code" and "nbval-check-output" in cell.metadata.get("tags", []):
            printed = "".join(o.get("text", "") for o in cell.outputs)
            assert not re.search(r"\b(True|False)$", printed, flags=re.MULTILINE), cell.source
