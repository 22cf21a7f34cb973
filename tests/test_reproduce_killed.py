"""``reproduce`` killed with all its workers, three times: what it writes in the end is the same."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rollingq_core import _files
from rollingq_core.reproduce import comparison
from rollingq_core.runs import sweep as runs
from rollingq_core.settings import SETTINGS
from tests.small import SETTING, small_data

# What is asked for at once, and which record it is killed at.
SHARED = ("table2", "table3", "conflict", "calibration")
TABLE1 = ("table1",)
# What tells when and how fast a record was computed, not what.
SPENT = ("date", "commit", "seconds", "wall_seconds", "sha256")
SMALL = """
import sys
from rollingq_core.__main__ import main
from rollingq_core.reproduce import comparison
from tests import test_reproduce_killed as small

small.shrink()
comparison.SEEDS_A_BATCH = comparison.FEWER = 1
comparison.run_seeds = small.run_seeds  # what joblib's workers are sent
main(["reproduce", *sys.argv[2:], "--data", "synthetic", "--setting", "T", "--seeds", "5",
      "--jobs", "2", "--out", sys.argv[1]])
"""


def shrink():
    """Make the runs short, and stop for good where the file ``STOP_AT`` is to get its name.

    By then its content is on disk under another name.
    """
    SETTINGS["T"] = replace(SETTING, training=replace(SETTING.training, epochs=2))
    runs.load_dataset = lambda name, seed: small_data(seed)
    original = os.replace

    def pausing(temporary, path):
        if Path(path).name == os.environ.get("STOP_AT"):
            Path(os.environ["REACHED"]).touch()
            signal.pause()
        original(temporary, path)

    _files.os.replace = pausing


def run_seeds(*arguments):
    """Do in a worker what the process that sent this would do; the worker knows nothing of it."""
    shrink()
    return comparison.run_seeds(*arguments)


def start(root, out, recipes, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", SMALL, out, *recipes],
        cwd=root,
        env=os.environ
        | {"PYTHONPATH": str(root), "JOBLIB_TEMP_FOLDER": str(out.parent)}
        | environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def kill_at(root, out, recipes, name):
    """Kill the command and its workers where that file is to get its name."""
    reached = out.with_name(f"reached {name}")
    process = start(root, out, recipes, STOP_AT=name, REACHED=str(reached))
    deadline = time.monotonic() + 180
    while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    still = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert still, "it ended before the moment to kill it"
    assert reached.exists()
    return {path.name for path in out.rglob("*.json") if path.name[0] != "."}


def records_of(recipes):
    return [f"{recipe}-synthetic-T.json" for recipe in recipes]


def finish(root, out, recipes):
    """Run the command to its end, and return the records that it wrote, and what it printed."""
    process = start(root, out, recipes)
    shown, _ = process.communicate(timeout=180)
    assert process.returncode == 0
    assert sorted(out.iterdir()) == sorted(out / name for name in records_of(recipes))
    records = {path.name: json.loads(path.read_text()) for path in out.iterdir()}
    told = {
        name: {key: value for key, value in record.items() if key not in SPENT}
        for name, record in records.items()
    }
    return told, shown.replace(str(out), "OUT")


@pytest.mark.slow
@pytest.mark.parametrize("recipes", [SHARED, TABLE1], ids=["four at once", "table1"])
def test_killed_three_times_it_ends_with_the_same_records_and_tables(recipes, root, tmp_path):
    out, records = tmp_path / "killed", records_of(recipes)
    # What the other worker does at that moment is left to chance. In Table 1 it is busy with the
    # first seed, which has the most methods.
    early = "101.json" if recipes == TABLE1 else "100.json"
    assert early not in kill_at(root, out, recipes, early)
    parts = kill_at(root, out, recipes, "103.json")
    assert len(parts) >= 2
    assert not parts & {"103.json", *records}
    written = kill_at(root, out, recipes, records[len(records) // 2])
    chunks = {f"{seed}.json" for seed in range(100, 105)}
    assert written == {*chunks, *records[: len(records) // 2]}
    killed, whole = finish(root, out, recipes), finish(root, tmp_path / "whole", recipes)
    assert killed == whole
    assert f"OUT/{records[0]}" in killed[1]
