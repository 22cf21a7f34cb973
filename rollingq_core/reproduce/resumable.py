"""A record computed in chunks, each of which survives when the computation is cut off."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

from rollingq_core._checks import require_integer
from rollingq_core._extras import needs
from rollingq_core._files import delete_unfinished
from rollingq_core.records import provenance, read_record, rounded, write_record
from rollingq_core.runs.elsewhere import Elsewhere
from rollingq_core.training.ticks import ticks_heard_by

with needs("train"):
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

T = TypeVar("T")
Rows = list[dict[str, Any]]


def require_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Return seeds as a tuple when they are one or more integers of at least 0, none twice."""
    wrong = ValueError(f"seeds: got {seeds!r}, expected one or more integers, none twice")
    if isinstance(seeds, str | bytes) or not isinstance(seeds, Iterable):
        raise wrong
    numbers = [require_integer(f"seeds[{i}]", seed, at_least=0) for i, seed in enumerate(seeds)]
    if not numbers or len(set(numbers)) < len(numbers):
        raise wrong
    return tuple(numbers)


def compute_record(
    out: str | Path,
    head: dict[str, Any],
    work: Callable[..., Rows],
    chunks: Mapping[str, tuple],
    *,
    jobs: int = 2,
    gpu: str | None = None,
) -> dict[str, Any]:
    """Compute the rows of all chunks, and write them as one record.

    Parameters
    ----------
    out
        The record to write.
    head
        What the record begins with. Its ``config`` tells chunks of this record from others.
    work, chunks, jobs, gpu
        As in :func:`compute_records`.

    Returns
    -------
    dict
        ``head``, ``seconds`` (of all chunks), ``wall_seconds``, the provenance, and
        ``runs``: the rows in the order of ``chunks``.
    """
    out = Path(out)
    heads = {out: (head, lambda row: row)}
    return compute_records(heads, out.with_suffix(".parts"), work, chunks, jobs=jobs, gpu=gpu)[out]


def compute_records(
    heads: Mapping[Path, tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]],
    folder: Path,
    work: Callable[..., Rows],
    chunks: Mapping[str, tuple],
    *,
    jobs: int = 2,
    gpu: str | None = None,
) -> dict[Path, dict[str, Any]]:
    """Compute the rows of all chunks once, and write several records of them.

    Each finished chunk is kept until the records are complete, so that the same call goes on where
    one that was cut off has stopped.

    Parameters
    ----------
    heads
        By the record's file: what it begins with, and what it keeps of a row.
    folder
        Where finished chunks are kept meanwhile.
    work
        From the values of a chunk to its rows.
    chunks
        The values by the chunk's name.
    jobs
        Processes to use.
    gpu
        Name of the one that is used, if any.

    Raises
    ------
    ValueError
        ``jobs`` is no integer of at least 1, or a finished chunk was changed since it was written.
    """
    jobs = require_integer("jobs", jobs, at_least=1)
    started = time.monotonic()
    config = {path.stem: head["config"] for path, (head, _) in heads.items()}
    tasks = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(Elsewhere(_chunk))(folder, name, config, work, values)
        for name, values in chunks.items()
    )
    with _progress(folder, chunks) as done:
        finished = [done(chunk) for chunk in tasks]
    spent = {
        "seconds": sum(chunk["seconds"] for chunk in finished),
        "wall_seconds": time.monotonic() - started,
    }
    # Rounded as they are written, so that a table is the same whether a chunk was read or computed.
    records = {
        path: rounded(
            {
                **head,
                **spent,
                **provenance(gpu),
                "runs": [keep(row) for chunk in finished for row in chunk["rows"]],
            }
        )
        for path, (head, keep) in heads.items()
    }
    for path, record in records.items():
        delete_unfinished(path)
        write_record(path, record)
    for name in chunks:
        delete_unfinished(folder / f"{name}.json")
        (folder / f"{name}.json").unlink()
    if not any(folder.iterdir()):  # chunks of a longer run that was cut off may be there still
        folder.rmdir()
    return records


@contextmanager
def _progress(folder: Path, names: Iterable[str]) -> Iterator[Callable[[T], T]]:
    """Show how many chunks are done, and how many epochs all processes have trained.

    Yields what each finished chunk is passed through.
    """
    names, ended = list(names), Event()
    with tqdm(total=len(names), desc=folder.stem, unit="chunk") as bar:

        def watch() -> None:
            while not ended.wait(0.5):
                sizes = [_size(_epochs_file(folder, name)) for name in names]
                bar.set_postfix(epochs=sum(sizes))

        def done(chunk: T) -> T:
            bar.update()
            return chunk

        watcher = Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield done
        finally:
            ended.set()
            watcher.join()
            for name in names:
                _epochs_file(folder, name).unlink(missing_ok=True)


def _epochs_file(folder: Path, name: str) -> Path:
    """Return the file that holds a byte for each epoch that a chunk has trained."""
    return folder / f".{name}.epochs"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # not there yet, or not any more
        return 0


def _add_epoch(path: Path) -> None:
    # Progress is not worth a computation: a full disk is told where a result is written.
    with suppress(OSError), path.open("ab") as file:
        file.write(b".")


def _chunk(
    folder: Path, name: str, config: dict[str, Any], work: Callable[..., Rows], values: tuple
) -> dict[str, Any]:
    try:
        chunk = read_record(name, folder)
    except FileNotFoundError:
        chunk = {"config": None}
    if chunk["config"] != rounded(config):  # as the record has it, where a tuple is a list
        begun = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        counted = _epochs_file(folder, name)
        counted.unlink(missing_ok=True)  # by one that was killed
        with ticks_heard_by(partial(_add_epoch, counted)):
            rows = work(*values)
        chunk = {"config": config, "rows": rows, "seconds": time.monotonic() - begun}
        write_record(folder / f"{name}.json", chunk)
    return chunk
