"""The package's floors: who may import whom, how long a file may be, what must be documented."""

import ast
import graphlib
import importlib
import io
import pkgutil
import tokenize
from pathlib import Path

import pytest

import rollingq_core

ROOT = Path(rollingq_core.__file__).parent
CORE = ("air.py", "rotation.py", "fusion/attention.py", "rolling.py")
# Beneath all rooms: private helpers that say nothing about the method.
FOUNDATION = "_"
# From the ground up, each room with its floor. Where rooms of one floor need each other, it has
# several lines: a room imports from the lines before its own.
FLOORS = [
    (0, {FOUNDATION}),
    (0, {"plane", "air", "settings", "records", "data"}),
    (0, {"rotation", "controls"}),
    (1, {"fusion", "rolling", "attach"}),
    (1, {"models"}),
    (2, {"training"}),
    (2, {"balancing", "callbacks"}),
    (3, {"evaluation", "methods", "statistics", "tables", "theory"}),
    (3, {"plots"}),
    (4, {"runs"}),
    (5, {"reproduce"}),
    (6, {"commands", "explorer"}),
    # The package's face, which no room looks at, and what starts the command line.
    (6, {"__init__"}),
    (6, {"__main__"}),
]
PLACE_OF = {room: place for place, (_, rooms) in enumerate(FLOORS) for room in rooms}


def module_name(path: Path) -> str:
    parts = ["rollingq_core", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def room(module: str) -> str:
    name = module.split(".")[1] if "." in module else "__init__"
    return FOUNDATION if name.startswith("_") and not name.startswith("__") else name


def imported(source: str) -> set[str]:
    """Modules of this package that a source imports, wherever in the file the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which floor they reach"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in FILES else node.module)
    return {name for name in found if name.split(".")[0] == "rollingq_core"}


IMPORTS = {module: imported(path.read_text()) for module, path in FILES.items()}


def arrows_up(imports: dict[str, set[str]]) -> list[str]:
    return [
        f"{module} imports {target}"
        for module, targets in imports.items()
        for target in targets
        if room(module) != room(target) and PLACE_OF[room(target)] >= PLACE_OF[room(module)]
    ]


def test_every_file_has_a_floor():
    assert {room(module) for module in FILES} == set(PLACE_OF)
    assert sum(len(rooms) for _, rooms in FLOORS) == len(PLACE_OF)
    floors = [floor for floor, _ in FLOORS]
    assert floors == sorted(floors)


def test_imports_point_to_floors_beneath():
    assert arrows_up(IMPORTS) == []


def test_an_arrow_up_is_seen():
    lazy = imported("def f():\n    from rollingq_core.rolling import RollingQ\n")
    assert arrows_up({"rollingq_core.air": lazy}) == [
        "rollingq_core.air imports rollingq_core.rolling"
    ]


def test_imports_make_no_circle():
    order = [*graphlib.TopologicalSorter(IMPORTS).static_order()]
    assert set(FILES) <= set(order)


def rooms_imported(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module, targets in imports.items():
        found.setdefault(room(module), set()).update(map(room, targets))
    return {name: rooms - {name} for name, rooms in found.items()}


def test_rooms_make_no_circle():
    order = [*graphlib.TopologicalSorter(rooms_imported(IMPORTS)).static_order()]
    assert set(order) == set(PLACE_OF)
    # Two rooms may need each other though no two of their files do.
    crossed = {
        "rollingq_core.runs.run": {"rollingq_core.methods"},
        "rollingq_core.methods": {"rollingq_core.runs.folder"},
    }
    with pytest.raises(graphlib.CycleError):
        [*graphlib.TopologicalSorter(rooms_imported(crossed)).static_order()]


def code_lines(source: str) -> int:
    """Number of lines that hold code: no docstring, comment or blank line."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [
        node.body[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and ast.get_docstring(node) is not None
    ]
    outside = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    indents = (tokenize.INDENT, tokenize.DEDENT)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (*outside, *indents):
            lines |= set(range(token.start[0], token.end[0] + 1))
    for docstring in docstrings:
        lines -= set(range(docstring.lineno, docstring.end_lineno + 1))
    return len(lines)


def test_only_lines_of_code_are_counted():
    source = '''"""Docs,
on two lines."""

# A comment.
def f():  # and another
    """Docs."""
    text = """a text
    on three lines

    of code"""
    return text
'''
    assert code_lines(source) == 6


def test_the_core_method_reads_in_one_sitting():
    sources = [(ROOT / name).read_text() for name in CORE]
    assert max(map(code_lines, sources)) <= 250
    assert sum(map(code_lines, sources)) <= 450


@pytest.mark.parametrize("module", FILES)
def test_a_file_holds_one_idea(module):
    assert len(FILES[module].read_text().splitlines()) <= 300


def reexported() -> list[tuple[str, str]]:
    rooms = [
        f"rollingq_core.{info.name}" for info in pkgutil.iter_modules([str(ROOT)]) if info.ispkg
    ]
    faces = ["rollingq_core", *rooms]
    return [
        (face, name)
        for face in faces
        for name in getattr(importlib.import_module(face), "__all__", ())
    ]


@pytest.mark.parametrize(("face", "name"), reexported())
def test_a_public_name_is_documented(face, name):
    value = getattr(importlib.import_module(face), name)
    if callable(value):
        # A NamedTuple or dataclass without a docstring gets its signature for one.
        assert value.__doc__, name
        assert not value.__doc__.startswith(f"{name}("), name
