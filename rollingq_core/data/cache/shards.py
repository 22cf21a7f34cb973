"""Samples made in parts that outlive a crash, and put together into one array a modality.

A part is one file of ``PART_SIZE`` items or fewer. It is written whole or not at all, so
that a part which exists is finished.
"""

import errno
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
from tqdm.auto import tqdm

from rollingq_core._files import written_whole

# Few: many processes find work even for some hundred items, and little is lost in a crash.
PART_SIZE = 8
# Which items of a part have a sample; stored beside the modalities.
KEPT = "kept"
Sample = Mapping[str, np.ndarray]
Parts = Mapping[Path, Sequence[str]]


def part_files(folder: Path, names: Sequence[str]) -> dict[Path, Sequence[str]]:
    """Return the file of each part and the items in it, in the order of ``names``."""
    starts = range(0, len(names), PART_SIZE)
    pieces = {start: names[start : start + PART_SIZE] for start in starts}
    return {
        folder / f"{start:06d}-{start + len(piece):06d}.npz": piece
        for start, piece in pieces.items()
    }


def write_parts(
    files: Parts, make: Callable[[str], Sample | None], jobs: int, progress: bool
) -> None:
    """Write the parts that are not there yet."""
    total = sum(map(len, files.values()))
    todo = {path: names for path, names in files.items() if not path.exists()}
    tasks = (joblib.delayed(_write_part)(path, names, make) for path, names in todo.items())
    done = total - sum(map(len, todo.values()))
    with tqdm(total=total, initial=done, disable=not progress, unit="item") as bar:
        for count in joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks):
            bar.update(count)


def kept_names(files: Parts) -> list[str]:
    """Return the items that have a sample, in order."""
    return [
        name
        for path, names in files.items()
        for name, kept in zip(names, _read(path, KEPT), strict=True)
        if kept
    ]


def join_parts(files: Parts, folder: Path, count: int) -> dict[str, np.ndarray]:
    """Write the ``count`` rows of each modality into one ``.npy`` file.

    Returns
    -------
    dict of str to np.ndarray
        For each modality of floats: mean and mean square of each row, ``[count, 2]``.
    """
    modalities = sorted({name for path in files for name in _names(path)} - {KEPT})
    moments = {name: _join(files, folder / f"{name}.npy", name, count) for name in modalities}
    return {name: values for name, values in moments.items() if len(values)}


@contextmanager
def clear_when_full(folder: Path) -> Iterator[None]:
    """Say of a full disk which cache it left unfinished, and that nothing is lost."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = "the disk is full, the cache unfinished; make room, and run again to go on"
        raise OSError(error.errno, message, str(folder)) from error


def _write_part(path: Path, names: Sequence[str], make: Callable[[str], Sample | None]) -> int:
    made = {name: make(name) for name in names}
    samples = {name: sample for name, sample in made.items() if sample is not None}
    first = next(iter(samples.values()), {})
    for name, sample in samples.items():
        if sample.keys() != first.keys():
            raise ValueError(f"{name}: got modalities {[*sample]}, expected {[*first]}")
        for modality, row in sample.items():
            _require_like(first[modality], row, modality, name)
            if not np.isfinite(row).all():
                raise ValueError(f"{modality}: got values of {name} that are not finite")
    arrays = {modality: np.stack([s[modality] for s in samples.values()]) for modality in first}
    # On a full disk a zip file would fail a second time when it is closed; memory doesn't.
    content = io.BytesIO()
    kept = np.array([name in samples for name in names])
    np.savez(content, **arrays, **{KEPT: kept})  # type: ignore[arg-type]
    with written_whole(path) as file:
        file.write(content.getbuffer())
    return len(names)


def _join(files: Parts, path: Path, modality: str, count: int) -> np.ndarray:
    moments, first, written = [], None, 0
    with written_whole(path) as file:
        for source in files:
            if modality not in _names(source):
                continue
            rows = _read(source, modality)
            if first is None:
                first = rows[0]
                shape = {"shape": (count, *first.shape), "fortran_order": False}
                np.lib.format.write_array_header_1_0(file, shape | {"descr": first.dtype.str})
            _require_like(first, rows[0], modality, source.name)
            file.write(np.ascontiguousarray(rows).data)
            written += len(rows)
            if np.issubdtype(rows.dtype, np.floating):
                flat = rows.reshape(len(rows), -1).astype(np.float64)
                moments.append(np.stack([flat.mean(axis=1), np.square(flat).mean(axis=1)], axis=1))
        if written != count:
            raise ValueError(f"{modality}: got {written} rows, expected {count}, one of each item")
    return np.concatenate(moments) if moments else np.empty((0, 2))


def _require_like(first: np.ndarray, row: np.ndarray, modality: str, name: str) -> None:
    if (row.shape, row.dtype) != (first.shape, first.dtype):
        raise ValueError(
            f"{modality}: got {row.dtype} of shape {row.shape} of {name}, expected {first.dtype} "
            f"of shape {first.shape}"
        )


def _read(path: Path, name: str) -> np.ndarray:
    with _open(path) as arrays:
        return arrays[name]


def _names(path: Path) -> list[str]:
    with _open(path) as arrays:
        return arrays.files


@contextmanager
def _open(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        # numpy leaves a damaged file open when it opens it itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        path.unlink()
        raise ValueError(f"{path} was damaged ({error}) and is deleted; run again") from error
