"""A reader's own data: arrays in memory, or in one file."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rollingq_core._checks import require_choice, require_integer, require_number
from rollingq_core._padding import padding_name
from rollingq_core.data.dataset import Array, DataSplits, PairedDataset, hash_splits

SPLITS = ("train", "validation", "test")

# In tables and records these stand for all modalities together.
EVERYONE = ("both", "all")


def from_arrays(
    inputs: Mapping[str, Array],
    labels: Array,
    *,
    masks: Mapping[str, Array] | None = None,
    splits: Sequence[float] | Sequence[Array] = (0.8, 0.1, 0.1),
    seed: int = 0,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    favoured: str | None = None,
) -> DataSplits:
    """Cut arrays of any number of modalities into splits to train, validate and test on.

    Values are taken as they are: bring each modality to about zero mean and unit variance first.

    Parameters
    ----------
    inputs : mapping of str to array
        By modality: tokens ``[N, L, p]``, or one vector a sample ``[N, p]``, which becomes one
        token.
    labels : array
        Class indices ``[N]``, integers from 0.
    masks : mapping of str to array, optional
        By modality: ``[N, L]`` bool, True where a token is padding; ``[N]`` where the modality is
        one vector a sample. A sample that lacks the modality is True throughout.
    splits : three numbers, or three arrays of indices
        Shares of training, validation and test samples, drawn by ``seed`` and adding up to 1; or
        which samples each of them has, none in two of them.
    seed : int
        Seed of the draw.
    classes : sequence of str, optional
        Names of the classes in the labels' order; their numbers by default.
    name : str
        Name of the dataset.
    favoured : str, optional
        The modality that a fusion tends to lean on, which the noise tests disturb; the first by
        default.

    Raises
    ------
    ValueError
        Wrong shapes, lengths or types, a value that is not finite, labels that are no class,
        shares that do not add up to 1, indices out of range, or an empty split.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> inputs = {"audio": rng.normal(size=(50, 4, 6)), "visual": rng.normal(size=(50, 3))}
    >>> data = from_arrays(inputs, np.arange(50) % 2)
    >>> {name: list(values.shape) for name, values in data.train.inputs.items()}
    {'audio': [40, 4, 6], 'visual': [40, 1, 3]}
    """
    require_integer("seed", seed, at_least=0)
    for argument, value in (("inputs", inputs), ("masks", masks or {})):
        if not isinstance(value, Mapping):
            raise ValueError(f"{argument}: got {type(value).__name__}, expected arrays by modality")
    tensors = {modality: _tokens(modality, values) for modality, values in inputs.items()}
    padding = {modality: _mask(modality, mask, tensors) for modality, mask in (masks or {}).items()}
    whole = PairedDataset(tensors, _native(labels), padding)
    if favoured is not None:
        require_choice("favoured", favoured, tuple(tensors))
    count = int(whole.labels.max()) + 1
    names = tuple(map(str, range(count))) if classes is None else tuple(map(str, classes))
    train, validation, test = (
        _subset(whole, chosen) for chosen in _indices(splits, len(whole), seed)
    )
    return DataSplits(
        name=name,
        train=train,
        validation=validation,
        test=test,
        classes=names,
        patch=None,
        data_hash=hash_splits(train, validation, test),
        favoured=favoured,
    )


def from_npz(path: str | Path, *, seed: int = 0) -> DataSplits:
    """Read a dataset from one file of arrays; nothing in it can run code.

    Parameters
    ----------
    path : str or Path
        A file of ``numpy.savez``: ``labels`` ``[N]``; an array for each modality under its own
        name; and where there are any, masks under ``{modality}_padding``, the indices ``train``,
        ``validation`` and ``test``, and ``classes`` as text.
    seed : int
        Seed of the split, where the file has no indices.

    Raises
    ------
    OSError
        There is no such file, or it can't be read.
    ValueError
        It is no such file, or :func:`from_arrays` refuses what it holds.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"path: got {path}, expected an .npz file of plain arrays") from error
    # A member of another kind comes as its bytes.
    if foreign := [name for name, values in arrays.items() if not isinstance(values, np.ndarray)]:
        raise ValueError(f"path: got {path} with {foreign}, expected plain arrays only")
    if "labels" not in arrays:
        raise ValueError(f"path: got {path} with {sorted(arrays)}, expected also 'labels'")
    labels, classes = arrays.pop("labels"), arrays.pop("classes", None)
    indices = {name: arrays.pop(name) for name in SPLITS if name in arrays}
    if indices and len(indices) < len(SPLITS):
        raise ValueError(f"path: got {path} with {sorted(indices)}, expected all of {SPLITS}")
    padded = {name: padding_name(name) for name in arrays if padding_name(name) in arrays}
    masks = {name: arrays.pop(mask) for name, mask in padded.items()}
    options: dict[str, Any] = {"splits": [indices[name] for name in SPLITS]} if indices else {}
    return from_arrays(
        arrays, labels, masks=masks, seed=seed, classes=classes, name=path.stem, **options
    )


def _tokens(name: str, values: Array) -> Tensor:
    usable = isinstance(name, str) and name.isidentifier() and not hasattr(nn.ModuleDict, name)
    if not usable or name in EVERYONE:
        raise ValueError(
            f"inputs: got a modality called {name!r}, expected names such as 'audio': letters, "
            f"digits and _, none that torch has a use for, and none of {[*EVERYONE]}"
        )
    try:
        tensor = torch.as_tensor(_native(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"inputs[{name!r}]: got no numbers ({error})") from error
    if tensor.ndim not in (2, 3) or 0 in tensor.shape:
        raise ValueError(
            f"inputs[{name!r}]: got shape {list(tensor.shape)}, expected [N, L, p] or [N, p], "
            "not empty"
        )
    # As they will be kept: what single precision can't hold is infinite there.
    if not (tensor.is_complex() or torch.isfinite(tensor.to(torch.float32)).all()):
        raise ValueError(f"inputs[{name!r}]: got values that are not finite, expected numbers")
    return tensor if tensor.ndim == 3 else tensor.unsqueeze(1)


def _mask(name: str, mask: Array, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return a modality's mask ``[N, L]``; one vector a sample may have ``[N]``."""
    if name not in tensors:
        raise ValueError(f"masks: got {name!r}, expected some of {[*tensors]}")
    count, length = tensors[name].shape[:2]
    try:
        padding = torch.as_tensor(mask)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(mask).__name__
        raise ValueError(f"masks[{name!r}]: got {kind}, expected bool ({error})") from error
    if length == 1 and padding.shape == (count,):
        padding = padding.unsqueeze(1)
    if padding.dtype != torch.bool or padding.shape != (count, length):
        raise ValueError(
            f"masks[{name!r}]: got {padding.dtype} of shape {list(padding.shape)}, "
            f"expected bool of shape [{count}, {length}]"
        )
    return padding


def _native(values: Array) -> Array:
    """Return an array as torch takes it: in this machine's byte order, and no step backwards."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biufc":
        return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return values


def _subset(whole: PairedDataset, chosen: Tensor) -> PairedDataset:
    return PairedDataset(
        {name: values[chosen] for name, values in whole.inputs.items()},
        whole.labels[chosen],
        {name: mask[chosen] for name, mask in whole.padding.items()},
    )


def _indices(splits: Sequence, count: int, seed: int) -> list[Tensor]:
    """Return which samples training, validation and test have."""
    if len(splits) != len(SPLITS):
        raise ValueError(f"splits: got {len(splits)}, expected those of {SPLITS}")
    if all(np.ndim(split) == 0 for split in splits):
        shares = [require_number("splits", split, above=0, at_most=1) for split in splits]
        if abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"splits: got shares that add up to {sum(shares):g}, expected 1")
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        ends = [round(share * count) for share in np.cumsum(shares)[:2]]
        indices = [*order.tensor_split(ends)]
    else:
        indices = [_as_indices(name, split) for name, split in zip(SPLITS, splits, strict=True)]
        chosen = torch.cat(indices)
        if chosen.numel() and not (chosen.min() >= 0 and chosen.max() < count):
            raise ValueError(f"splits: got indices outside 0 to {count - 1}")
        if len(chosen.unique()) < len(chosen):
            raise ValueError("splits: got a sample twice, expected each once at the most")
    empty = [name for name, split in zip(SPLITS, indices, strict=True) if not len(split)]
    if empty:
        raise ValueError(f"splits: got no sample for {empty}, expected one or more in each")
    return indices


def _as_indices(name: str, split: Array) -> Tensor:
    try:
        tensor = torch.as_tensor(split)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"splits[{name!r}]: got no integers ({error})") from error
    whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    if tensor.ndim != 1 or not (whole or tensor.numel() == 0):
        raise ValueError(
            f"splits[{name!r}]: got {tensor.dtype} of shape {list(tensor.shape)}, "
            "expected integers in one dimension"
        )
    return tensor.long()
