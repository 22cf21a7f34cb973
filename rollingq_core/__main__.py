"""The command line: ``python -m rollingq_core``, also installed as ``rollingq``."""

import argparse

from rollingq_core.commands import data, evaluate, reproduce, train


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ``arguments`` are those of the process by default.

    An error that is to be expected, such as a missing file, is one line and exit code 1.
    """
    parser = argparse.ArgumentParser(prog="rollingq", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (train, evaluate, reproduce, data):
        command.add(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError) as error:
        parser.exit(1, f"rollingq: {' '.join(str(error).split())}\n")


if __name__ == "__main__":
    main()
