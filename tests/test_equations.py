"""The paper's thirteen equations stand once each, in boxes, and are cited for what they are."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import rollingq_core

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("notebooks/[0-9]*.py"), *ROOT.glob("book/*.md"), ROOT / "README.md"])
BOX = re.compile(
    r"((?:\(eq-paper-\d+\)=\n)+):::\{admonition\} In the paper, Eq\. ([^\n]+)\n"
    r":class: in-the-paper\n(.*?)\n:::",
    re.DOTALL,
)
TAG = re.compile(r"\\tag\{([^}]*)\}")
CHAPTER_OF = dict.fromkeys(range(1, 5), "02") | {5: "04"} | dict.fromkeys(range(6, 9), "03")
CHAPTER_OF |= dict.fromkeys(range(9, 14), "05")

# What a file may cite: what it computes, draws or checks.
ATTENTION, AIR, TURN = {1, 2, 3, 4}, {9}, {10, 11, 12, 13}
MAY_CITE = {
    "fusion/": ATTENTION | {13},  # its query is the rotated one
    "theory/initialisation.py": {1, 4},
    "theory/gradients.py": {1, 2, 6, 7, 8},
    "air.py": {3, 4} | AIR,
    "rotation.py": AIR | TURN,
    "plane.py": TURN,
    "rolling.py": AIR | TURN,
    "attach/observation.py": ATTENTION,
    "training/observer.py": AIR,
    "explorer/geometry": ATTENTION | AIR | TURN,
    "explorer/loop": {6, 7, 8},
    "plots/geometry.py": AIR | TURN,
    "plots/rotation.py": TURN,
}


def prose(path: Path) -> str:
    """Return the text of a page; of a notebook, that of its prose cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.splitlines())


def boxes() -> list[tuple[str, str, str, str]]:
    return [(path.name, *found) for path in PAGES for found in BOX.findall(prose(path))]


def cited(text: str) -> set[int]:
    """Return the numbers that follow "Eq.": ``Eq. 4``, ``Eq. 1 and 2``, ``Eq. 10 to 13``."""
    numbers = set()
    for first, word, last in re.findall(r"Eq\.\s(\d+)(?:\s(and|to|or)\s(\d+))?(?!\d|\.\d)", text):
        ends = [int(first), int(last or first)]
        numbers |= set(range(ends[0], ends[1] + 1)) if word == "to" else set(ends)
    return numbers


PUBLIC = {
    "attention_imbalance_rate": 9,
    "rebalance_anchor": 10,
    "anchor_weight": 11,
    "minimal_rotation": 12,
    "svd_rotation": 12,
}


def docstrings(path: Path) -> list[tuple[str, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return [(getattr(node, "name", "module"), ast.get_docstring(node) or "") for node in nodes]


def test_what_counts_as_a_citation():
    assert cited("the sum of logits (Eq. 4), and Eq. 10 to 12.") == {4, 10, 11, 12}
    assert cited("Eq. 1 and 3, as in Eq. 13.") == {1, 3, 13}
    assert cited("equation 5, Eq. 5.1, Eq. 12.3.") == set()


def test_each_of_the_papers_equations_stands_once_in_a_box():
    found = {}
    for page, labels, title, body in boxes():
        numbers = re.findall(r"\d+", title)
        assert re.findall(r"\d+", labels) == numbers, f"{page}: {title}"
        assert TAG.findall(body) == numbers, f"{page}: {title}"
        for number in map(int, numbers):
            assert number not in found, f"Eq. {number} in {page} and {found[number]}"
            found[number] = page
    assert {number: page[:2] for number, page in found.items()} == CHAPTER_OF


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_our_own_equations_carry_their_chapters_number(path):
    text = BOX.sub("", prose(path))
    assert "In the paper, Eq." not in text, "a box of another form"
    for tag in TAG.findall(text):
        assert re.fullmatch(r"\d+\.\d+", tag), tag
        assert int(tag.split(".")[0]) == int(path.name[:2]), tag
    assert len(set(TAG.findall(text))) == len(TAG.findall(text))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_tagged_equation_breaks_its_lines_with_cr(path):
    # Sphinx puts an equation with \\ into a split environment, in which MathJax allows no tag.
    for equation in re.findall(r"^\$\$\n(.*?)^\$\$", prose(path), re.DOTALL | re.MULTILINE):
        assert not TAG.search(equation) or "\\\\" not in equation, equation


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_cite_equations_that_exist(path):
    text = path.read_text(encoding="utf-8").replace("\n# ", " ").replace("\n", " ")
    assert cited(text) <= set(range(1, 14))
    targets = re.findall(r"\(eq-([\w-]+)\)=", "\n".join(map(prose, PAGES)))
    assert len(set(targets)) == len(targets)
    for title, target in re.findall(r"\{ref\}`([^<`]*)<eq-([\w-]+)>`", text):
        assert target in targets, target
        number = target.removeprefix("paper-").replace("-", ".")
        assert title.removeprefix("Eq. ").strip() == number, target


@pytest.mark.parametrize(
    ("phrase", "number"),
    [
        ("sum of (?:a modality's |its )?logits(?: of (?:a|each) modality)?", 4),
        ("average keys? of (?:a|each) modality", 3),
        (r"q_r = q\s?R_b", 13),
    ],
)
def test_a_number_beside_a_name_is_that_of_the_name(phrase, number):
    for path in [*PAGES, *ROOT.glob("rollingq_core/**/*.py")]:
        text = re.sub(r"\s+#?\s*", " ", path.read_text(encoding="utf-8"))
        for found in re.findall(rf"{phrase}\W{{1,3}}Eq\. (\d+)", text):
            assert int(found) == number, path.name


def test_docstrings_cite_the_equations_that_their_file_is_about():
    root = ROOT / "rollingq_core"
    seen = set()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        for owner, text in docstrings(path):
            numbers = cited(text)
            allowed = [MAY_CITE[place] for place in MAY_CITE if name.startswith(place)]
            assert not numbers or allowed, f"{name}, {owner}: cites Eq. {sorted(numbers)}"
            assert numbers <= set().union(*allowed), f"{name}, {owner}: cites Eq. {sorted(numbers)}"
            seen |= numbers
    assert {4, 9, 10, 11, 12, 13} <= seen


@pytest.mark.parametrize(("name", "number"), PUBLIC.items())
def test_a_function_of_one_equation_names_it(name, number):
    first = inspect.getdoc(getattr(rollingq_core, name)).split("\n\n")[0]
    assert number in cited(first)
