"""Commands that are killed where it hurts."""

import os
import signal
import subprocess
import sys
import time

# Stops for good where a file's content is on disk but its name is not, or before the last step.
PAUSE = """
import itertools, os, signal, sys
from pathlib import Path
import torch
from rollingq_core.__main__ import main
from rollingq_core.data.cache import shards

shards.PART_SIZE = 6
reached, moment, *command = sys.argv[1:]

def pausing(original):
    numbers = itertools.count(1)

    def call(*arguments):
        if moment == f"{original.__name__} {next(numbers)}":
            Path(reached).touch()
            signal.pause()
        return original(*arguments)
    return call

if __name__ == "__main__":
    os.fsync, os.replace, os.rename = map(pausing, (os.fsync, os.replace, os.rename))
    shards.tqdm.update = pausing(shards.tqdm.update)
    torch.optim.SGD.step = pausing(torch.optim.SGD.step)
    main(command)
"""


def kill_at(folder, moment, *command):
    """Run a command in a process group of its own and kill it once it is at the moment.

    A moment is a function and which of its calls, such as ``fsync 3``.
    """
    reached = folder / "reached"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSE, str(reached), moment, *map(str, command)],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 180
    while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "it ended before the moment to kill it"
    assert reached.exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
