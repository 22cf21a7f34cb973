"""The option ``--data``, as several commands take it: a dataset's name, or a reader's own file."""

import argparse

from rollingq_core.data.sources import SOURCES, is_file_name, located


def add_option(parser: argparse.ArgumentParser, about: str, default: str | None) -> None:
    """Add ``--data``."""
    parser.add_argument(
        "--data",
        type=named,
        default=default,
        metavar="NAME|FILE.npz",
        help=f"{about}: {', '.join(SOURCES)}, or a file of arrays (see `data list`)",
    )


def named(text: str) -> str:
    """Return a dataset's name; argparse tells the error of one that there is not."""
    if text not in SOURCES and not is_file_name(text):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected one of {', '.join(SOURCES)}, or a file FILE.npz"
        )
    return located(text)
