"""The command line: ``python -m rollingq_core``, also installed as ``rollingq``."""

import argparse
import sys
from importlib import import_module

import torch

from rollingq_core import __version__
from rollingq_core._extras import needs

DESCRIPTION = "Train, test and reproduce the models of the RollingQ book."
# By name: the extras that its module and its work need.
COMMANDS = {
    "train": ("train", "data"),
    "evaluate": ("train", "data"),
    "reproduce": ("train", "data"),
    "methods": ("train",),
    "data": ("data", "video"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ``arguments`` are those of the process by default.

    An error that is to be expected, such as a missing file, is one line and exit code 1. Ctrl-C
    ends with one line, too, and the shell's exit code for it, 130.
    """
    stopped = "stopped; run it again"
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="rollingq", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    # One command needs no library of another.
    asked = [name for name in COMMANDS if name in given[:1]]
    try:
        for name in asked or COMMANDS:
            with needs(*COMMANDS[name]):
                import_module(f"rollingq_core.commands.{name}").add(commands)
        options = parser.parse_args(given)
        stopped = options.stopped
        with needs(*COMMANDS[options.command]):
            options.run(options)
    except (OSError, ValueError, ModuleNotFoundError, torch.OutOfMemoryError) as error:
        parser.exit(1, f"rollingq: {_reason(error)}\n")
    except KeyboardInterrupt as stop:
        parser.exit(130, f"rollingq: {str(stop) or stopped}\n")


def _reason(error: Exception) -> str:
    """Return what an error says in one line."""
    lines = str(error).splitlines() or [type(error).__name__]
    # A process that reads ahead tells its error with the traceback.
    if lines[0].startswith("Caught ") and "worker process" in lines[0]:
        lines = [lines[-1].partition(": ")[2]]
    return " ".join(" ".join(lines).split())


if __name__ == "__main__":
    main()
