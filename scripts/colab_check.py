"""Run chapters in an environment like Colab's: its versions, and what the first cell adds.

Creates the environment with the versions of constraints-colab.txt where it is not there yet (some
minutes and gigabytes), installs the package with the extras of each chapter, and runs the chapters
without a screen. It fails where the first cell would replace a library that Colab brings, where a
cell fails, and where an explorer shows no live face.

Example: python scripts/colab_check.py --environment .venv-colab 01 05 07 15
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
CONSTRAINTS = ROOT / "constraints-colab.txt"
CHAPTERS = ("01", "05", "07", "15")
EXPLORERS = re.compile(r"\b(?:GeometryExplorer|LoopExplorer|NoiseDial|TrainingMap)\(")
VIEW = "application/vnd.jupyter.widget-view+json"


def create(environment, python):
    """Return the Python of the environment, made anew where it is not there."""
    inside = environment / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", environment], check=True)
        pip(inside, "install", "-r", CONSTRAINTS)
    return inside


def pip(python, *arguments):
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")
    return done.stdout


def installed(python):
    listed = json.loads(pip(python, "list", "--format", "json"))
    return {one["name"]: one["version"] for one in listed}


def install(python, extras):
    """Install the package as the first cell does; return what was added, and what was replaced."""
    pip(python, "uninstall", "-y", "rollingq-core")
    before = installed(python)
    pip(python, "install", f"rollingq-core[{','.join(extras)}] @ {ROOT.as_uri()}")
    after = installed(python)
    added = {name: after[name] for name in after if name not in before}
    replaced = {name: after.get(name) for name in before if after.get(name) != before[name]}
    return added, replaced


def run(chapter):
    """Run a chapter in this environment; return errors, and how many live faces it shows."""
    # Only the environment under test has to have these.
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(chapter, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    with tempfile.TemporaryDirectory() as folder:
        # As on Colab nothing of the repository lies beside the notebook, and no kernel of the
        # user's own stands before the environment's.
        os.environ["JUPYTER_DATA_DIR"] = folder
        resources = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, timeout=900, kernel_name="python3", allow_errors=True, resources=resources
        ).execute()
    outputs = [output for cell in code for output in cell.outputs]
    shown = [output for output in outputs if VIEW in output.get("data", {})]
    return {
        "errors": [f"{o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"],
        "warnings": [o.text for o in outputs if o.get("name") == "stderr"],
        "explorers": sum(len(EXPLORERS.findall(cell.source)) for cell in code),
        "live faces": len(shown),
        "static faces beside them": sum("text/html" in output.data for output in shown),
    }


def check(python, chapter):
    """Install what a chapter needs and run it; return what is wrong."""
    from scripts import install_cell

    extras = install_cell.extras(chapter.read_text(encoding="utf-8"))
    added, replaced = install(python, extras)
    print(f"{chapter.stem}: the first cell installs [{','.join(extras)}]", flush=True)
    print(f"  adds {added or 'nothing'}; replaces {replaced or 'nothing'}", flush=True)
    done = subprocess.run(
        [python, __file__, "--inside", chapter.with_suffix(".ipynb")],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        env={"ROLLINGQ_PROFILE": "smoke", **os.environ},
    )
    if done.returncode:
        return [f"{chapter.stem}: could not be run"]
    told = json.loads(done.stdout.splitlines()[-1])
    print("\n".join(f"  {name}: {value}" for name, value in told.items()), flush=True)
    wrong = [f"{chapter.stem}: {error}" for error in told["errors"]]
    if replaced:
        wrong.append(f"{chapter.stem}: replaces {replaced}")
    if not told["explorers"] == told["live faces"] == told["static faces beside them"]:
        wrong.append(f"{chapter.stem}: an explorer does not show both its faces")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", default=CHAPTERS, help="their numbers")
    parser.add_argument("--environment", type=Path, default=ROOT / ".venv-colab")
    parser.add_argument(
        "--python",
        default=shutil.which("python3.12") or sys.executable,
        help="to create the environment with; Colab has Python 3.12",
    )
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(run(options.inside)))
        return
    python = create(options.environment.resolve(), options.python)
    print(subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout)
    wrong = []
    for number in options.chapters:
        for chapter in sorted((ROOT / "notebooks").glob(f"{number}*.py")):
            wrong += check(python, chapter)
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
