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

RECIPES = ("table2", "table3", "conflict", "calibration")
PARTS = "-".join(f"{recipe}-synthetic-T" for recipe in RECIPES) + ".parts"
# What tells when and how fast a record was computed, not what.
SPENT = ("date", "commit", "seconds", "wall_seconds", "sha256")
SMALL = """
import sys
from rollingq_core.__main__ import main
from rollingq_core.reproduce import comparison
from tests import test_reproduce_killed as small

small.shrink()
comparison.SEEDS_A_BATCH = 1
comparison.run_seeds = small.run_seeds  # what joblib's workers are sent
main(["reproduce", *small.RECIPES, "--data", "synthetic", "--setting", "T", "--seeds", "5",
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


def start(root, out, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", SMALL, out],
        cwd=root,
        env=os.environ
        | {"PYTHONPATH": str(root), "JOBLIB_TEMP_FOLDER": str(out.parent)}
        | environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_at(root, out, name):
    """Kill the command and its workers where that file is to get its name."""
    reached = out.with_name(f"reached {name}")
    process = start(root, out, STOP_AT=name, REACHED=str(reached))
    deadline = time.monotonic() + 180
    while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    still = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert still, "it ended before the moment to kill it"
    assert reached.exists()
    return {path.name for path in out.rglob("*.json") if path.name[0] != "."}


def finish(root, out):
    """Run the command to its end, and return what it wrote."""
    assert start(root, out).wait(timeout=180) == 0
    assert sorted(out.iterdir()) == sorted(out / f"{recipe}-synthetic-T.json" for recipe in RECIPES)
    records = {path.name: json.loads(path.read_text()) for path in out.iterdir()}
    return {
        name: {key: value for key, value in record.items() if key not in SPENT}
        for name, record in records.items()
    }


@pytest.mark.slow
def test_killed_three_times_it_ends_with_the_same_records(root, tmp_path):
    out = tmp_path / "killed"
    # What the other worker does at that moment is left to chance.
    assert "100.json" not in kill_at(root, out, "100.json")
    parts = kill_at(root, out, "103.json")
    assert {"100.json", "101.json"} <= parts
    assert not parts & {"103.json", *(f"{recipe}-synthetic-T.json" for recipe in RECIPES)}
    written = kill_at(root, out, "conflict-synthetic-T.json")
    assert written == {*(f"{seed}.json" for seed in range(100, 105)),
                       "table2-synthetic-T.json", "table3-synthetic-T.json"}  # fmt: skip
    assert finish(root, out) == finish(root, tmp_path / "whole")
