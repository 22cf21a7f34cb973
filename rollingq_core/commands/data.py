"""``data``: list datasets, prepare a large one for training, or verify its files."""

import argparse
from functools import partial
from pathlib import Path

from rollingq_core.data import cremad, cremad_files
from rollingq_core.data.sources import SOURCES
from rollingq_core.tables import Table

# Not the module's docstring, which `python -OO` leaves out.
NEEDED = (
    f"The media can't be fetched automatically. Its folder has to hold {cremad_files.SOUNDS}/"
    f"<clip>.wav and {cremad_files.VIDEOS}/<clip>.flv of {cremad_files.ADDRESS}, or "
    f"{cremad_files.PICTURES}/<clip>/<number>.jpg instead of the videos. The split that most "
    "papers use, train.csv and test.csv of https://github.com/GeWu-Lab/OGM-GE_CVPR2022, is "
    "downloaded where it is not there."
)


# What is listed of a reader's own file.
OWN = (
    "FILE.npz holds arrays, as numpy.savez writes them: `labels` [N]; an array for each modality, "
    "[N, L, p] or [N, p]; and where there are any, masks `{modality}_padding` [N, L], the indices "
    "`train`, `validation` and `test`, and `classes` as text."
)
# Datasets that have to be prepared.
PREPARED = ("cremad",)


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "data",
        help="list datasets, prepare a large one, or verify its files",
        description=f"List datasets, prepare CREMA-D, or verify its files. {NEEDED}",
        epilog="example: python -m rollingq_core data prepare cremad --root CREMA-D --jobs 4",
    )
    parser.set_defaults(
        run=partial(run, parser), stopped="stopped; run it again, and prepare goes on from here"
    )
    parser.add_argument("action", choices=("list", "prepare", "verify"))
    parser.add_argument("dataset", choices=PREPARED, nargs="?")
    parser.add_argument("--root", type=Path, help="its folder; CREMA-D in the data root by default")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument(
        "--audio", choices=[*cremad.CREMAD_SETTINGS], default="code", help="spectrograms to prepare"
    )


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """List datasets; or prepare one and print where it lies, or what is wrong with its files."""
    if options.action == "list":
        rows = [[name, source.about] for name, source in SOURCES.items()]
        print(Table(["data", "what it is"], rows, ""))
        print(OWN)
        return
    if options.dataset is None:
        known = ", ".join(PREPARED)
        parser.error(f"dataset: got none to {options.action}, expected one of {known}")
    if options.action == "prepare":
        print(cremad.prepare(options.root, options.audio, options.jobs, progress=True))
        return
    report = cremad.verify(options.root, options.jobs, progress=True)
    print(report)
    if not report.ok:
        raise SystemExit(1)
