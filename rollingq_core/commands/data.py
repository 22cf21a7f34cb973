"""``data``: bring a large dataset into the form that training reads, or verify its files."""

import argparse
from pathlib import Path

from rollingq_core.data import cremad, cremad_files

# Not the module's docstring, which `python -OO` leaves out.
NEEDED = (
    f"The media can't be fetched automatically. Its folder has to hold {cremad_files.SOUNDS}/"
    f"<clip>.wav and {cremad_files.VIDEOS}/<clip>.flv of {cremad_files.ADDRESS}, or "
    f"{cremad_files.PICTURES}/<clip>/<number>.jpg instead of the videos. The split that most "
    "papers use, train.csv and test.csv of https://github.com/GeWu-Lab/OGM-GE_CVPR2022, is "
    "downloaded where it is not there."
)


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "data",
        help="prepare a large dataset, or verify its files",
        description=f"Prepare CREMA-D, or verify its files. {NEEDED}",
        epilog="example: python -m rollingq_core data prepare cremad --root CREMA-D --jobs 4",
    )
    parser.set_defaults(run=run, stopped="stopped; run it again, and prepare goes on from here")
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
