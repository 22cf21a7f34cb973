"""Write the first code cell of every chapter, which installs what the chapter needs on Colab.

Example: python scripts/install_cell.py      (every chapter, its .py and its .ipynb)
"""

import ast
import re
import sys
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripts import build_notebooks, set_repository

TAG = "hide-cell"
# By room of the package: the extras that hold what it imports. The other rooms need torch only.
EXTRAS_OF = {
    "balancing": {"train"},
    "callbacks": {"callbacks"},
    "commands": {"data", "train"},
    "data": {"data"},
    "evaluation": {"train"},
    "explorer": {"plots"},
    "methods": {"train"},
    "models": {"train"},
    "plots": {"plots"},
    "reproduce": {"data", "train"},
    "runs": {"data", "train"},
    "statistics": {"train"},
    "theory": {"train"},
    "training": {"train"},
}

_CELL = """\
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core{extras}"
    url = "{url}"
    get_ipython().run_line_magic("pip", f'install -q "{{package}} @ git+{{url}}"')"""
_IN_SCRIPT = re.compile(
    rf'(# %% tags=\["{TAG}"\]\n)from importlib\.util import find_spec\n.*?(?=\n\n# %%)', re.DOTALL
)


def rooms(source):
    """Return the rooms of the package that a Python source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")]
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" for name in names]
        if isinstance(node, ast.Import | ast.ImportFrom):
            parts = (name.split(".") for name in names)
            found |= {part[1] for part in parts if part[0] == "rollingq_core" and part[1:]}
    return found


def extras(source):
    """Return the extras that a chapter needs; those that another one brings are left out."""
    found = set().union(*(EXTRAS_OF.get(room, set()) for room in rooms(source)))
    return sorted(found - {"train"} if "plots" in found else found)


def install_cell(url, source):
    """Return the source of the cell for the repository at ``url`` and a chapter's .py."""
    needed = extras(source)
    return _CELL.format(url=url, extras=f"[{','.join(needed)}]" if needed else "")


def write_cell(script):
    """Write the cell into a chapter's .py, and into its .ipynb where there is one."""
    text = script.read_text(encoding="utf-8")
    cell = install_cell(set_repository.current(), text)
    renewed, count = _IN_SCRIPT.subn(lambda match: match[1] + cell, text, count=1)
    if count != 1:
        raise ValueError(f"{script.name}: got no cell that installs the package, expected one")
    build_notebooks.write(script, renewed)
    path = script.with_suffix(".ipynb")
    if path.exists():
        notebook = nbformat.read(path, as_version=4)
        first = next(cell for cell in notebook.cells if cell.cell_type == "code")
        first.source = cell
        build_notebooks.write_notebook(path, notebook)


def main():
    for script in sorted((set_repository.ROOT / "notebooks").glob("[0-9]*.py")):
        write_cell(script)
        print(script.stem, *extras(script.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
