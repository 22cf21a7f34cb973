"""``data``: list datasets, prepare a large one for training, or verify its files."""

import argparse
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

from rollingq_core.data.sources import PREPARED, SOURCES
from rollingq_core.tables import Table

# What is listed of a reader's own file.
OWN = (
    "FILE.npz holds arrays, as numpy.savez writes them: `labels` [N]; an array for each modality, "
    "[N, L, p] or [N, p]; and where there are any, masks `{modality}_padding` [N, L], the indices "
    "`train`, `validation` and `test`, and `classes` as text."
)
SPECTROGRAMS = ("code", "paper")


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "data",
        help="list datasets, prepare a large one, or verify its files",
        description="List datasets, prepare a large one, or verify its files. What each needs: "
        + " ".join(_module(name).NEEDS for name in PREPARED),
        epilog="example: python -m rollingq_core data prepare cremad --root CREMA-D --jobs 4",
    )
    parser.set_defaults(
        run=partial(run, parser), stopped="stopped; run it again, and prepare goes on from here"
    )
    parser.add_argument("action", choices=("list", "prepare", "verify"))
    parser.add_argument("dataset", choices=PREPARED, nargs="?")
    parser.add_argument("--root", type=Path, help="its folder; by default its own in the data root")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument("--audio", choices=SPECTROGRAMS, help="spectrograms to prepare")


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
    dataset = _module(options.dataset)
    if options.action == "prepare":
        print(dataset.prepare(options.root, options.audio, options.jobs, progress=True))
        return
    report = dataset.verify(options.root, options.jobs, progress=True)
    print(report)
    if not report.ok:
        raise SystemExit(1)


def _module(name: str) -> ModuleType:
    return import_module(f"rollingq_core.data.{name}")
