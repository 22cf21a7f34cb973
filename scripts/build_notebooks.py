"""Run every chapter from its .py and write the .ipynb beside it, outputs included.

The same code gives the same file: no times, no random cell ids, no execution metadata.
When and how long each chapter ran goes to results/status.json instead.

Example: python scripts/build_notebooks.py 05      (only the chapters whose name starts so)
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
STATUS = ROOT / "results" / "status.json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
REPORTED = ("torch", "numpy", "librosa")


def cell_ids(sources):
    """Return one id a cell, made from its text, so that an unchanged cell keeps its id."""
    seen, ids = {}, []
    for source in sources:
        digest = hashlib.sha256(source.encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids


def merge_streams(outputs):
    """Join neighbouring pieces of one stream: how many pieces arrive is a matter of timing."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == "stream" == last.output_type and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def tidy(notebook):
    """Remove from an executed notebook what would differ between two runs."""
    for cell, identifier in zip(
        notebook.cells, cell_ids(cell.source for cell in notebook.cells), strict=True
    ):
        cell.id = identifier
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = merge_streams(cell.outputs)
            # A view of a widget names an object of that one run, and shows nothing after it.
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET_VIEW, None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    return notebook


def write(path, text):
    """Write ``text`` so that a reader of ``path`` never sees half a file."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_notebook(path, notebook):
    """Write a notebook, tidied."""
    nbformat.validate(tidy(notebook))
    write(path, nbformat.writes(notebook, version=4) + "\n")


def run(script):
    """Execute one chapter; return the seconds it took."""
    notebook = jupytext.read(script)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(script.parent)}},
    )
    start = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - start
    write_notebook(script.with_suffix(".ipynb"), notebook)
    return seconds


def processor():
    """Return the processor's name, and how many of its cores this process may use."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        name = re.search(r"model name\s*:\s*(.+)", text).group(1).strip()
    except (OSError, AttributeError):
        name = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def record(name, seconds):
    """Note in results/status.json that the chapter ``name`` ran just now, and on what."""
    status = json.loads(STATUS.read_text(encoding="utf-8")) if STATUS.exists() else {}
    status.setdefault("chapters", {})[name] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": round(seconds, 1),
        "hardware": processor(),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in REPORTED},
    }
    STATUS.parent.mkdir(exist_ok=True)
    write(STATUS, json.dumps(status, indent=2, sort_keys=True) + "\n")


def main(arguments=None):
    wanted = tuple(sys.argv[1:] if arguments is None else arguments) or ("",)
    for script in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        if script.name.startswith(wanted):
            seconds = run(script)
            record(script.stem, seconds)
            print(f"{script.stem}: {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
