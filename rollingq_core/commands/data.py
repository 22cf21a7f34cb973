"""``data``: bring a large dataset into the form that training reads, or verify its files."""

import argparse
from pathlib import Path

from rollingq_core.data import cremad, cremad_files


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    needed = " ".join(cremad_files.__doc__.replace("``", "").split())
    parser = commands.add_parser(
        "data",
        help="prepare a large dataset, or verify its files",
        description=f"Prepare CREMA-D, or verify its files. {needed}",
        epilog="example: python -m rollingq_core data prepare cremad --root CREMA-D --jobs 4",
    )
    parser.set_defaults(run=run)
    parser.add_argument("action", choices=("prepare", "verify"))
    parser.add_argument("dataset", choices=("cremad",))
    parser.add_argument("--root", type=Path, help="its folder; CREMA-D in the data root by default")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument(
        "--audio", choices=[*cremad.CREMAD_SETTINGS], default="code", help="spectrograms to prepare"
    )


def run(options: argparse.Namespace) -> None:
    """Prepare a dataset and print where it lies, or print what :func:`cremad.verify` finds."""
    if options.action == "prepare":
        print(cremad.prepare(options.root, options.audio, options.jobs, progress=True))
        return
    report = cremad.verify(options.root, options.jobs, progress=True)
    print(report)
    if not report.ok:
        raise SystemExit(1)
