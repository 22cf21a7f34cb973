"""``train`` with several processes, started by itself or by torchrun: as one, and ending as one."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rollingq_core.__main__ import main
from rollingq_core.data import kinetics_sounds
from rollingq_core.training.checkpoint import load_checkpoint
from tests import folders
from tests.test_processes import assert_close

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@contextmanager
def started(root, folder, launcher, *options):
    clean = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    command = ["-m", "rollingq_core", "train", "--data", "digits", "--out", str(folder), *options]
    with folder.with_suffix(".err").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *launcher, *command, "--devices", "2"],
            cwd=root,
            env=clean | {"PYTHONPATH": str(root), "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # none is left, unless the test has failed
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_torchrun_trains_as_one_process(root, tmp_path):
    # Of the profiles, this one has no dropout, which each process draws for itself.
    options = ["--profile", "cpu", "--epochs", "4", "--beta", "0"]
    with started(root, tmp_path / "two", TORCHRUN, *options) as process:
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    # Of the rows of epochs, the last column is the angle of a rotation.
    cells = [line.split() for line in out.splitlines()]
    assert len([row for row in cells if "fusion" in row and row[-1] != "-"]) == 1
    assert len([row for row in cells if row[:1] == ["epoch"]]) == 1
    main(["train", "--data", "digits", "--out", str(tmp_path / "one"), *options])
    two, one = (json.loads((tmp_path / x / "history.json").read_text()) for x in ("two", "one"))
    assert_close(two, one)


def processes(pid, launcher):
    """Return the two processes that train, the first one first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [*map(int, children)] if launcher else [pid, *map(int, children)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find a process")
@pytest.mark.parametrize(
    ("launcher", "number", "message"),
    [
        ([], 1, "rollingq: process 0 of 2: another one has stopped or does not answer; start the"),
        ([], 0, "rollingq: process 1 of 2: another one has stopped or does not answer; start the"),
        (TORCHRUN, 1, "Signal 9 (SIGKILL) received"),
    ],
    ids=["second", "first", "torchrun"],
)
def test_a_killed_process_ends_the_command_with_a_message(
    root, tmp_path, launcher, number, message
):
    folder = tmp_path / "run"
    with started(root, folder, launcher, "--profile", "smoke", "--epochs", "500") as process:
        for line in process.stdout:
            if line.split()[:1] == ["2/500"]:
                break
        both = processes(process.pid, launcher)
        assert len(both) == 2
        os.kill(both[number], signal.SIGKILL)
        process.communicate(timeout=120)  # ends when no process is left that could write
    assert process.returncode == (1 if number else -signal.SIGKILL)
    assert message in (tmp_path / "run.err").read_text()
    assert 2 <= len(load_checkpoint(folder / "checkpoint.pt")["history"]) < 500


# The book's profile, which has no dropout, on few samples: pictures are then cut once, and not by
# each process as it draws.
FEW = """
import sys
from dataclasses import replace
from rollingq_core.__main__ import main
from rollingq_core.runs.description import PROFILES

PROFILES["cpu"] = replace(PROFILES["cpu"], samples=64)
if __name__ == "__main__":
    main(sys.argv[1:])
"""


@pytest.mark.slow
def test_two_processes_train_on_videos_as_one(root, tmp_path, monkeypatch):
    monkeypatch.setenv("ROLLINGQ_DATA", str(tmp_path / "data"))
    folders.make_kinetics_sounds(tmp_path / "data" / "Kinetics-Sounds")
    kinetics_sounds.prepare()
    script = tmp_path / "few.py"
    script.write_text(FEW)
    command = [str(script), "train", "--data", "kinetics_sounds", "--epochs", "3", "--beta", "0"]
    clean = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    histories = []
    for name, launcher in (("two", TORCHRUN), ("one", [])):
        devices = ["--devices", "2" if launcher else "1", "--out", str(tmp_path / name)]
        subprocess.run(
            [sys.executable, *launcher, *command, *devices],
            cwd=root,
            env=clean | {"PYTHONPATH": str(root), "GLOO_SOCKET_IFNAME": "lo"},
            check=True,
            capture_output=True,
            timeout=300,
        )
        histories.append(json.loads((tmp_path / name / "history.json").read_text()))
    assert_close(*histories)
    turns = [epoch.get("rotation") for epoch in histories[1]]
    assert any(turns)
