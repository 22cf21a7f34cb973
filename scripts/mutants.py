"""Break the method on purpose, and see which chapters, and whether the record check, notice.

Each mutant is applied to a temporary copy of the tree. Its chapters run through nbval, the quickest
first, until two have failed; then, where they are too few, the record check runs as well. The
exit status is 1 where a mutant is noticed by fewer than two chapters and not by the record check.

Example: python scripts/mutants.py --only pearson noise --chapters 04 09
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CHAPTERS = ("01", "02", "04", "05", "06", "07", "08", "09")
RECORDS = "records"
ENOUGH = 2
POINT = 0.01
NBVAL = ("--nbval-lax", "--nbval-current-env", "--nbval-sanitize-with", "tests/nbval_sanitize.cfg")


class Change(NamedTuple):
    """One replacement in a file; ``old`` must stand in it exactly once."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """What is broken, and the chapters that speak of it."""

    changes: tuple[Change, ...]
    chapters: tuple[str, ...] = CHAPTERS
    record: str | None = None


ROTATION = "rollingq_core/rotation.py"
PLANE = "rollingq_core/plane.py"
AIR = "rollingq_core/air.py"
FUSION = "rollingq_core/fusion/attention.py"
NOISE = "rollingq_core/evaluation/noise.py"
CONTRAST = "rollingq_core/evaluation/attention.py"

SHARES = "for a in attention.split(counts, dim=-1)], dim=-1)"
WITH_CLS = "for a in row.split([*counts[:-1], row.shape[-1] - sum(counts[:-1])], dim=-1)], dim=-1)"

MUTANTS = {
    "alpha-sign": Mutant(
        (
            Change(ROTATION, "torch.tanh(-rho * air)", "torch.tanh(rho * air)"),
            Change(ROTATION, "math.tanh(-rho * ", "math.tanh(rho * "),
            Change(ROTATION, "torch.softmax(-2 * ", "torch.softmax(2 * "),
        ),
        ("05", "06", "07", "01", "04", "08"),
    ),
    "no-renormalisation": Mutant(
        (Change(ROTATION, "return unit(mixed) * (query", "return mixed * (query"),),
        ("05", "06", "04"),
    ),
    "transposed-rotation": Mutant(
        (Change(PLANE, "[[drop, sine], [-sine, drop]]", "[[drop, -sine], [sine, drop]]"),),
        ("05", "06", "07", "01", "04"),
    ),
    "transposed-forward": Mutant(
        (Change(ROTATION, "@ self.matrix.to(wide))", "@ self.matrix.to(wide).mT)"),),
        ("05", "06", "07", "01", "04"),
    ),
    "class-token-in-share": Mutant((Change(FUSION, SHARES, WITH_CLS),), ("02", "06", "04")),
    "modalities-swapped-in-air": Mutant(
        (
            Change(AIR, "return cosines[0] - cosines[1]", "return cosines[1] - cosines[0]"),
            Change(AIR, "self.cosines[0] - self.cosines[1]", "self.cosines[1] - self.cosines[0]"),
        ),
        ("05", "06", "07", "04"),
    ),
    "modalities-swapped-in-share": Mutant(
        (Change(FUSION, SHARES, SHARES + ".flip(-1)"),), ("02", "05", "01", "04", "07")
    ),
    "noise-ignored": Mutant(
        (Change(NOISE, "if self.level == 0:", "if self.level >= 0:"),), ("09", "01", "04", "07")
    ),
    "pearson-sign": Mutant(
        (Change(CONTRAST, "return float(scipy.stats.p", "return -float(scipy.stats.p"),),
        ("04", "09", "01", "05", "07"),
    ),
    "shifted-record": Mutant((), ("01", "07", "08"), record="comparison-digits-P"),
}


def changed(text: str, change: Change) -> str:
    """Return ``text`` with the change made, or raise ``ValueError`` where its source has moved."""
    if (count := text.count(change.old)) != 1:
        raise ValueError(
            f"{change.file}: got {count} of {change.old!r}, expected one: the source has moved"
        )
    return text.replace(change.old, change.new)


def shift_record(root: Path, name: str) -> None:
    """Add a point to each accuracy of RollingQ in a record, with a checksum that fits."""
    sys.path.insert(0, str(ROOT))
    from rollingq_core.records import read_record, write_record

    record = read_record(name, root / "results")
    for run in record["runs"]:
        if run["method"] == "mt+rollingq":
            run["accuracy"] = [accuracy + POINT for accuracy in run["accuracy"]]
    write_record(root / "results" / f"{name}.json", record)


def apply(mutant: Mutant, root: Path) -> None:
    """Break the copy of the tree at ``root``."""
    for change in mutant.changes:
        path = root / change.file
        path.write_text(changed(path.read_text(encoding="utf-8"), change), encoding="utf-8")
    if mutant.record:
        shift_record(root, mutant.record)


def copy_tree(root: Path) -> None:
    """Copy what git knows of the tree, as it is now, to ``root``."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)


def fails(root: Path, check: str) -> bool:
    """Run a chapter or the record check in a copy, and return whether it failed."""
    if check == RECORDS:
        arguments = ["tests/test_records_hold.py"]
    else:
        arguments = [str(path) for path in sorted(root.glob(f"notebooks/{check}*.ipynb"))]
        arguments += [*NBVAL, "--nbval-cell-timeout", "900"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1):  # pytest's own errors are no verdict
        raise RuntimeError(f"{check}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}")
    return done.returncode == 1


def judge(mutant: Mutant, checks: list[str], failing: Callable[[Path, str], bool] = fails):
    """Return which of the checks notice the mutant, by name; those not needed are left out."""
    found: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        root = Path(folder)
        copy_tree(root)
        apply(mutant, root)
        for check in checks:
            if not noticed(found):
                found[check] = failing(root, check)
    return found


def noticed(found: dict[str, bool]) -> bool:
    """Whether two chapters or the record check have failed."""
    return found.get(RECORDS, False) or sum(found.values()) >= ENOUGH


def checks_of(mutant: Mutant, chapters: list[str] | None, records: bool) -> list[str]:
    """Return a mutant's checks: its chapters, the quickest first, then the record check."""
    status = json.loads((ROOT / "results" / "status.json").read_text(encoding="utf-8"))["chapters"]
    seconds = {name[:2]: entry["seconds"] for name, entry in status.items()}
    wanted = [x for x in mutant.chapters if x in chapters] if chapters else list(mutant.chapters)
    return sorted(wanted, key=lambda x: seconds.get(x, 0)) + ([RECORDS] if records else [])


def main() -> int:
    """Judge the mutants, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="MUTANT", help=f"names, of {[*MUTANTS]}")
    parser.add_argument("--chapters", nargs="+", help=f"such as 05; of {CHAPTERS}, by mutant")
    parser.add_argument("--no-records", action="store_true", help="without the record check")
    parser.add_argument("--no-baseline", action="store_true", help="trust that all passes unbroken")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    options = parser.parse_args()
    wanted = {
        name: mutant
        for name, mutant in MUTANTS.items()
        if not options.only or any(part in name for part in options.only)
    }
    if not wanted:
        parser.error(f"--only: got {options.only}, expected some of {[*MUTANTS]}")
    checks = {
        name: checks_of(mutant, options.chapters, not options.no_records)
        for name, mutant in wanted.items()
    }
    with ThreadPoolExecutor(options.jobs) as pool:
        if not options.no_baseline:
            needed = sorted({check for some in checks.values() for check in some})
            unbroken = pool.map(lambda check: judge(Mutant(()), [check]), needed)
            if broken := [check for found in unbroken for check, bad in found.items() if bad]:
                print(f"without any mutant these fail: {broken}")
                return 1
        tasks = {name: pool.submit(judge, wanted[name], checks[name]) for name in wanted}
        survived = []
        width = max(map(len, wanted))
        print(f"{'mutant'.ljust(width)}  verdict   caught by; not by")
        for name, task in tasks.items():
            found = task.result()
            caught = " ".join(check for check, bad in found.items() if bad) or "-"
            missed = " ".join(check for check, bad in found.items() if not bad) or "-"
            verdict = "caught  " if noticed(found) else "SURVIVED"
            survived += [] if noticed(found) else [name]
            print(f"{name.ljust(width)}  {verdict}  {caught}; {missed}", flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
