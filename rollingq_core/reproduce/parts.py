"""A record computed in parts, each of which survives when the computation is cut off."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed
from tqdm.auto import tqdm

from rollingq_core.records import provenance, read_record, rounded, write_record

Rows = list[dict[str, Any]]


def compute_record(
    out: str | Path,
    head: dict[str, Any],
    work: Callable[..., Rows],
    parts: Mapping[str, tuple],
    *,
    jobs: int = 2,
    progress: bool = True,
) -> dict[str, Any]:
    """Compute the rows of all parts, and write them as one record.

    Each finished part is kept beside ``out`` until the record is complete, so that the same call
    goes on where one that was cut off has stopped.

    Parameters
    ----------
    out
        The record to write.
    head
        What the record begins with. Its ``config`` tells parts of this record from others.
    work
        From the values of a part to its rows.
    parts
        The values by the part's name.
    jobs
        Processes to use.
    progress
        Whether to show a progress bar.

    Returns
    -------
    dict
        ``head``, ``seconds`` (of all parts together), ``wall_seconds``, the provenance, and
        ``runs``: the rows in the order of ``parts``.
    """
    out, started = Path(out), time.monotonic()
    folder = out.with_suffix(".parts")
    tasks = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_part)(folder, name, head["config"], work, values) for name, values in parts.items()
    )
    bar = tqdm(tasks, total=len(parts), desc=out.stem, disable=not progress)
    finished = list(bar)
    record = {
        **head,
        "seconds": sum(part["seconds"] for part in finished),
        "wall_seconds": time.monotonic() - started,
        **provenance(),
        "runs": [row for part in finished for row in part["rows"]],
    }
    write_record(out, record)
    for name in parts:
        (folder / f"{name}.json").unlink()
    if not any(folder.iterdir()):  # parts of a longer run that was cut off may be there still
        folder.rmdir()
    return record


def _part(
    folder: Path, name: str, config: dict[str, Any], work: Callable[..., Rows], values: tuple
) -> dict[str, Any]:
    try:
        part = read_record(name, folder)
    except FileNotFoundError:
        part = {"config": None}
    if part["config"] != rounded(config):  # as the record has it, where a tuple is a list
        begun = time.monotonic()
        part = {"config": config, "rows": work(*values), "seconds": time.monotonic() - begun}
        write_record(folder / f"{name}.json", part)
    return part
