"""Prepared samples on disk, read as memory-mapped arrays.

A cache is a folder with one ``<modality>.npy`` each and ``labels.npy``, a row a sample, and with
``manifest.json``, which says what they are. :mod:`rollingq_core.data.cache.building` makes it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rollingq_core._checks import require_choice
from rollingq_core.data import store
from rollingq_core.data.dataset import DataSplits

FORMAT = "rollingq-cache-1"
MANIFEST = "manifest.json"
PLACES = ("train", "validation", "test")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Return the manifest of a finished cache.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged, or of another format.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"folder: {path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"folder: {path} is no manifest of format {FORMAT!r}")
    if manifest.get("hash") != manifest_hash(manifest):
        raise ValueError(f"folder: {path} is damaged: its content has another hash than it states")
    return manifest


def verify(folder: str | Path) -> None:
    """Read a whole cache and compare each file's SHA-256 with the manifest.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If one differs.
    """
    for name, sha256 in read_manifest(folder)["files"].items():
        store.verify_file(Path(folder) / name, sha256)


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of all that a manifest states, the files' hashes among it."""
    content = {name: value for name, value in manifest.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class CachedDataset(Dataset):
    """Some rows of a cache, read from disk as they are asked for.

    It can be pickled: each worker of a loader maps the files itself.

    Parameters
    ----------
    folder : str or Path
        A finished cache.
    rows : sequence of int
        The rows that are this dataset's samples.
    transforms : mapping of str to callable
        By modality: what makes a float32 batch of the rows as stored, ``[B, ...]``.
    label_of : sequence of int, optional
        New labels, by the stored ones.

    Raises
    ------
    FileNotFoundError or ValueError
        If a file is missing or cut short.
    """

    def __init__(
        self,
        folder: str | Path,
        rows: Sequence[int] | np.ndarray,
        transforms: Mapping[str, Callable[[Tensor], Tensor]],
        label_of: Sequence[int] | None = None,
    ) -> None:
        self.folder, self.rows = Path(folder), np.asarray(rows, dtype=np.int64)
        self.transforms = dict(transforms)
        self._arrays = self._open()
        labels = np.load(self.folder / "labels.npy", allow_pickle=False)[self.rows]
        self.labels = torch.from_numpy(labels if label_of is None else np.array(label_of)[labels])
        self.outside: dict[str, Dataset] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        inputs, labels = self.__getitems__([index])
        return {name: batch[0] for name, batch in inputs.items()}, labels[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the samples at ``indices`` as one batch; use with an identity ``collate_fn``."""
        chosen = np.asarray(indices, dtype=np.int64)
        rows = self.rows[chosen]
        inputs = {
            name: transform(torch.from_numpy(self._arrays[name][rows]))
            for name, transform in self.transforms.items()
        }
        return inputs, self.labels[torch.from_numpy(chosen)]

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled with all its values.
        return {name: value for name, value in vars(self).items() if name != "_arrays"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._arrays = self._open()

    def _open(self) -> dict[str, np.ndarray]:
        return {
            name: np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in self.transforms
        }


def cached_splits(
    folder: str | Path,
    name: str,
    split: str,
    transforms: Callable[[dict[str, list[float]], bool], Mapping[str, Callable]],
    patch: dict[str, tuple[int, int]],
    *,
    places: Mapping[str, str] | None = None,
    known: Sequence[str] | None = None,
) -> DataSplits:
    """Return a cache's samples split in one of its ways.

    Parameters
    ----------
    folder : str or Path
        A finished cache.
    name : str
        The dataset's name.
    split : str
        Which of the ways to split.
    transforms : callable
        Returns the transforms of :class:`CachedDataset`, from the training split's mean and
        standard deviation by modality, and from whether it is the training split.
    patch : dict
        As in :class:`DataSplits`.
    places : mapping of str to str, optional
        The place of each item by its name, for a way to split that the cache knows nothing of;
        items that are not named take no part.
    known : sequence of str, optional
        The classes to take; samples of all others lie outside of the test split, and near to it.

    Raises
    ------
    ValueError
        If there is no such split, or a part of it is empty.
    """
    manifest = read_manifest(folder)
    if places is None:
        require_choice("split", split, tuple(manifest["splits"]))
        of_row = np.array(manifest["splits"][split])
    else:
        of_row = np.array([places.get(item, "none") for item in manifest["names"]])
    scale = manifest["scale"].get(split, {})
    classes = manifest["classes"] if known is None else list(known)
    label_of = [classes.index(c) if c in classes else -1 for c in manifest["classes"]]
    labels = np.load(Path(folder) / "labels.npy", allow_pickle=False)
    is_known = np.array(label_of)[labels] >= 0
    datasets = {}
    for place in PLACES:
        rows = np.flatnonzero((of_row == place) & is_known)
        if not len(rows):
            raise ValueError(f"split: got no {place} sample in {split!r}, expected at least one")
        datasets[place] = CachedDataset(folder, rows, transforms(scale, place == "train"), label_of)
    if not is_known.all():
        views = transforms(scale, False)
        others = np.flatnonzero(~is_known)
        # Their labels say nothing.
        datasets["test"].outside["near"] = CachedDataset(folder, others, views, [0] * len(label_of))
    return DataSplits(
        name=name,
        classes=tuple(classes),
        patch=patch,
        bands=_bands(datasets["train"]),
        # Two ways to split the same samples are two datasets.
        data_hash="-".join([manifest["hash"], split, *(known or ())]),
        **datasets,  # type: ignore[arg-type]  # in place of datasets that hold tensors
    )


def _bands(dataset: CachedDataset) -> dict[str, tuple[int, int]]:
    """Return patches that cut a sound into seven moments, and pictures into seven bands."""
    inputs, _ = dataset.__getitems__([0])
    sizes = {name: values.shape[-2:] for name, values in inputs.items()}
    return {
        name: (height, width // 7) if name == "audio" else (height // 7, width)
        for name, (height, width) in sizes.items()
    }
