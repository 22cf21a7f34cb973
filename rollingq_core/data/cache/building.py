"""Building a cache so that nothing finished is lost: parts first, then the whole in one step.

Finished parts wait in a folder beside the cache, ``<name>.parts``; see
:mod:`rollingq_core.data.cache.shards`.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rollingq_core._checks import require_integer
from rollingq_core._files import one_process_at_a_time, written_whole
from rollingq_core.data import store
from rollingq_core.data.cache import shards
from rollingq_core.data.cache.reading import FORMAT, MANIFEST, manifest_hash, read_manifest


@dataclass(frozen=True)
class Contents:
    """What a cache is to hold.

    Attributes
    ----------
    labels : dict of str to int
        Class of each item by the item's name, in the order of the rows.
    classes : tuple of str
        Class names, in label order.
    splits : dict of str to (dict of str to str)
        By the name of a way to split: the place of each item, ``"train"``, ``"validation"`` or
        ``"test"``.
    options : dict
        How samples are made, JSON-serialisable.
    """

    labels: dict[str, int]
    classes: tuple[str, ...]
    splits: dict[str, dict[str, str]]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Sixteen hex digits that name these contents."""
        # The order of rows counts too, which sorting the keys of a dict would hide.
        return store.fingerprint(format=FORMAT, names=[*self.labels], **asdict(self))


def build(
    folder: str | Path,
    contents: Contents,
    make: Callable[[str], shards.Sample | None],
    jobs: int = 1,
    progress: bool = False,
) -> dict[str, Any]:
    """Build a cache, going on from the parts that an earlier call finished.

    However often it was stopped, the result is the same, bit for bit. Of several processes that
    want the same cache, one builds it and the others wait.

    Parameters
    ----------
    folder : str or Path
        The cache; it appears only once it is whole. If it is there, nothing is made.
    contents : Contents
        What it holds.
    make : callable
        Makes a sample from an item's name: arrays by modality, of the same shapes and types for
        all items; None leaves the item out. With several jobs it has to be picklable.
    jobs : int
        Processes to use.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ValueError
        If ``folder`` holds other contents, or samples don't fit together, aren't finite, or
        leave nothing to store. What ``make`` raises passes through.
    OSError
        If the disk is full or the folder can't be written; finished parts are kept.
    """
    require_integer("jobs", jobs, at_least=1)
    folder = Path(folder)
    workplace = folder.with_name(f"{folder.name}.parts")
    if not folder.exists():  # one that is there may be read-only, and needs no lock
        with one_process_at_a_time(folder):
            if not folder.exists():  # else another process has made it meanwhile
                _make(folder, workplace, contents, make, jobs, progress)
    manifest = read_manifest(folder)
    if manifest["key"] != contents.key:
        raise ValueError(
            f"folder: {folder} was built from other items or options; delete it, and run again"
        )
    shutil.rmtree(workplace, ignore_errors=True)
    return manifest


def _make(
    folder: Path,
    workplace: Path,
    contents: Contents,
    make: Callable[[str], shards.Sample | None],
    jobs: int,
    progress: bool,
) -> None:
    files = shards.part_files(workplace / contents.key, [*contents.labels])
    with shards.clear_when_full(folder):
        shards.write_parts(files, make, jobs, progress)
        # One that is there already was left by a call killed at this point.
        whole = workplace / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        _put_together(whole, contents, files)
        os.rename(whole, folder)


def _put_together(whole: Path, contents: Contents, files: shards.Parts) -> None:
    names = shards.kept_names(files)
    kept = set(names)
    if not names:
        raise ValueError("contents: got no item that can be stored, expected at least one")
    labels = np.array([contents.labels[name] for name in names], dtype=np.int64)
    with written_whole(whole / "labels.npy") as file:
        np.lib.format.write_array(file, labels, allow_pickle=False)
    moments = shards.join_parts(files, whole, len(names))
    splits = {split: [of[name] for name in names] for split, of in contents.splits.items()}
    manifest = {
        "format": FORMAT,
        "key": contents.key,
        "options": contents.options,
        "classes": list(contents.classes),
        "count": len(names),
        "names": names,
        "left_out": [name for name in contents.labels if name not in kept],
        "splits": splits,
        "scale": {
            split: {name: _scale(rows, places, name) for name, rows in moments.items()}
            for split, places in splits.items()
        },
        "files": {path.name: store.sha256_file(path) for path in sorted(whole.glob("*.npy"))},
    }
    manifest["hash"] = manifest_hash(manifest)
    with written_whole(whole / MANIFEST) as file:
        file.write(json.dumps(manifest, indent=1).encode())


def _scale(moments: np.ndarray, places: Sequence[str], modality: str) -> list[float]:
    """Return mean and standard deviation over the training rows."""
    training = moments[np.array(places) == "train"]
    mean, square = training.mean(axis=0) if len(training) else (0.0, 0.0)
    deviation = float(np.sqrt(max(square - mean**2, 0.0)))
    if not deviation > 0:
        raise ValueError(f"{modality}: got no variation over the training split, expected some")
    return [float(mean), deviation]
