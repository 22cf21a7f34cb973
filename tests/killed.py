"""``data prepare`` killed where it hurts."""

import os
import signal
import subprocess
import sys
import time

# Stops for good where a file's content is on disk but its name is not, or before the last step.
PAUSE = """
import itertools, signal, sys
from pathlib import Path
import rollingq_core._files as files
from rollingq_core.__main__ import main
from rollingq_core.data.cache import building, shards

shards.PART_SIZE = 6
name, root, moment, jobs = sys.argv[1:]

def pausing(original):
    numbers = itertools.count(1)

    def call(*arguments):
        if moment == f"{original.__name__} {next(numbers)}":
            Path(root, "reached").touch()
            signal.pause()
        return original(*arguments)
    return call

if __name__ == "__main__":
    files.os.fsync = pausing(files.os.fsync)
    building.os.rename = pausing(building.os.rename)
    shards.tqdm.update = pausing(shards.tqdm.update)
    main(["data", "prepare", name, "--root", root, "--jobs", jobs])
"""


def kill_at(name, root, moment, jobs):
    """Run ``data prepare`` in a process group of its own and kill it once it is at the moment."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    command = [sys.executable, "-c", PAUSE, name, str(root), moment, jobs]
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 180
    while (
        not (root / "reached").exists() and process.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    assert process.poll() is None, "it ended before the moment to kill it"
    assert (root / "reached").exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
