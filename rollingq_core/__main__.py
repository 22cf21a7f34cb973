"""The command line: ``python -m rollingq_core``, also installed as ``rollingq``."""

import argparse
from pathlib import Path

from rollingq_core.data import DATASETS
from rollingq_core.reproduce import comparison
from rollingq_core.reproduce.settings import SETTINGS


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ``arguments`` are those of the process by default."""
    parser = argparse.ArgumentParser(prog="rollingq", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reproduce = commands.add_parser(
        "reproduce",
        help="compute a result record anew",
        epilog="example: python -m rollingq_core reproduce comparison --data digits --seeds 12",
    )
    reproduce.add_argument("recipe", choices=["comparison"])
    reproduce.add_argument("--data", choices=DATASETS, default="digits")
    reproduce.add_argument("--setting", choices=[*SETTINGS], default="P")
    reproduce.add_argument("--seeds", type=int, default=len(comparison.REPORTING_SEEDS))
    reproduce.add_argument("--jobs", type=int, default=2, help="processes to use")
    reproduce.add_argument("--out", type=Path, default=Path("results"), help="folder to write to")
    options = parser.parse_args(arguments)
    for name in ("seeds", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: got {getattr(options, name)}, expected at least 1")
    first = comparison.REPORTING_SEEDS[0]
    path = options.out / f"comparison-{options.data}-{options.setting}.json"
    comparison.reproduce(
        options.data,
        options.setting,
        tuple(range(first, first + options.seeds)),
        out=path,
        jobs=options.jobs,
    )
    print(path)


if __name__ == "__main__":
    main()
