"""The command line: ``python -m rollingq_core``, also installed as ``rollingq``."""

import argparse
import sys
from importlib import import_module

from rollingq_core._extras import needs

# By name: the extras that its module and its work need.
COMMANDS = {
    "train": ("train", "data"),
    "evaluate": ("train", "data"),
    "reproduce": ("train", "data"),
    "data": ("data", "video"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ``arguments`` are those of the process by default.

    An error that is to be expected, such as a missing file, is one line and exit code 1.
    """
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="rollingq", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    # One command needs no library of another.
    asked = [name for name in COMMANDS if name in given[:1]]
    try:
        for name in asked or COMMANDS:
            with needs(*COMMANDS[name]):
                import_module(f"rollingq_core.commands.{name}").add(commands)
        options = parser.parse_args(given)
        with needs(*COMMANDS[options.command]):
            options.run(options)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        parser.exit(1, f"rollingq: {' '.join(str(error).split())}\n")


if __name__ == "__main__":
    main()
