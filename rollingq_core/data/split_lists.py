"""Lists of clips, one on a line: the one reader for the split files of all datasets."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

Told = TypeVar("Told")
Parse = Callable[[str], tuple[str, Told] | None]


def read_lists(lists: Iterable[tuple[Path, Parse[Told]]], once: bool = True) -> dict[str, Told]:
    """Return what lists tell of each clip, in their order.

    Parameters
    ----------
    lists
        Each file with what reads one of its lines: returns the clip's name and what is told of it,
        or None for a line that lists none, and raises ``ValueError`` for one that can't be right.
    once
        Whether a clip may be listed only once; else it may be listed again if the same is told.

    Raises
    ------
    ValueError
        A line can't be right, or lists a clip again; the message has its file and number.
    """
    found: dict[str, Told] = {}
    for path, parse in lists:
        for number, line in enumerate(path.read_text("utf-8-sig", "replace").splitlines(), start=1):
            try:
                listed = parse(line)
                if listed is None:
                    continue
                name, told = listed
                if name in found and (once or found[name] != told):
                    raise ValueError(f"{name} is listed a second time")
            except (ValueError, csv.Error) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            found[name] = told
    return found
