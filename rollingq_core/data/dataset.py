"""Paired samples in memory, and the preparation every dataset of the book shares."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rollingq_core._checks import require_integer, require_number
from rollingq_core._padding import as_padding, padding_name
from rollingq_core._tensors import as_input, as_labels, require_labels

Array = np.ndarray | Tensor


class PairedDataset(Dataset):
    """Samples of several modalities that share one label each, held in memory.

    Parameters
    ----------
    inputs : mapping of str to Tensor
        Modality name to a tensor ``[N, ...]``; kept as float32.
    labels : Tensor
        Class indices ``[N]``, from 0; kept as int64.
    padding : mapping of str to Tensor, optional
        Modality name to a boolean mask ``[N, L]``, True where a token that its encoder makes is
        padding; a sample that lacks the modality is True throughout. A batch carries it under the
        modality's name and ``_padding``.
    outside : mapping of str to Dataset, optional
        By kind: samples of none of the classes, which a test of a model's confidence needs beside
        these. Their labels say nothing.

    Raises
    ------
    ValueError
        If there is no modality, an input is not made of real numbers, labels are not integers from
        0 in one dimension, the lengths differ, or the padding does not fit (see
        :func:`rollingq_core._padding.as_padding`).
    """

    def __init__(
        self,
        inputs: Mapping[str, Array],
        labels: Array,
        padding: Mapping[str, Array] | None = None,
        outside: Mapping[str, Dataset] | None = None,
    ):
        if not inputs:
            raise ValueError("inputs: got no modality, expected at least one")
        self.labels = as_labels(labels)
        count = len(self.labels)
        self.inputs = {name: as_input(name, values, count) for name, values in inputs.items()}
        self.padding = as_padding(padding, self.inputs, count)
        self.outside = dict(outside or {})

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        return {name: values[index] for name, values in self._columns()}, self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the samples at ``indices`` as one batch; use with an identity ``collate_fn``."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return {name: values[chosen] for name, values in self._columns()}, self.labels[chosen]

    def _columns(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.inputs.items()
        yield from ((padding_name(name), mask) for name, mask in self.padding.items())

    def with_inputs(self, **tensors: Tensor) -> "PairedDataset":
        """Return a dataset with some modalities replaced, and all else the same.

        Raises
        ------
        ValueError
            If a name is not a modality of this dataset, or a tensor has another length.
        """
        unknown = sorted(set(tensors) - set(self.inputs))
        if unknown:
            raise ValueError(
                f"tensors: got modalities {unknown}, expected some of {[*self.inputs]}"
            )
        inputs = {**self.inputs, **tensors}
        return PairedDataset(inputs, self.labels, self.padding, self.outside)


@dataclass(frozen=True)
class DataSplits:
    """A dataset cut into training, validation and test samples.

    Attributes
    ----------
    name : str
        Name that ``load_dataset`` knows it by.
    train, validation, test : PairedDataset
        The three splits; validation chooses, test reports. Large datasets have a
        :class:`rollingq_core.data.cache.reading.CachedDataset` each, which holds no tensors.
    classes : tuple of str
        Class names, in label order.
    patch : dict of str to (int, int), or None
        Height and width of the patch that becomes one token; None if inputs are tokens already.
    data_hash : str
        SHA-256 over all tensors of all splits (see :func:`hash_splits`), or that of a cache and
        the name of its split.
    favoured : str, optional
        The modality that a fusion of this data tends to lean on, which the noise tests disturb; by
        default the first.
    bands : dict of str to (int, int), optional
        Larger patches, for small encoders: full-size grids would be cut into hundreds.

    Raises
    ------
    ValueError
        If a label is none of the classes.
    """

    name: str
    train: PairedDataset
    validation: PairedDataset
    test: PairedDataset
    classes: tuple[str, ...]
    patch: dict[str, tuple[int, int]] | None
    data_hash: str
    favoured: str | None = None
    bands: dict[str, tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        self.require_classes(len(self.classes))

    def require_classes(self, classes: int) -> None:
        """Raise ``ValueError`` when a split has labels that are none of so many classes."""
        for place in ("train", "validation", "test"):
            labels = getattr(getattr(self, place), "labels", None)
            if labels is not None:  # a dataset may tell its labels batch by batch only
                require_labels(f"{place}.labels", torch.as_tensor(labels), classes)


def hash_splits(*splits: PairedDataset) -> str:
    """Return the SHA-256 (hex) over names, shapes and values of all tensors, in order.

    Padding counts where there is any.
    """
    digest = hashlib.sha256()
    for split in splits:
        masks = [(padding_name(name), mask) for name, mask in sorted(split.padding.items())]
        for name, values in [*sorted(split.inputs.items()), ("labels", split.labels), *masks]:
            array = np.ascontiguousarray(values.numpy())
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def standardise(train: PairedDataset, *others: PairedDataset) -> tuple[PairedDataset, ...]:
    """Subtract the mean and divide by the standard deviation of the training split.

    One scalar mean and one scalar deviation per modality, taken from ``train`` only and applied
    to every split. Padding does not count where the inputs are tokens ``[N, L, ...]``, one for each
    of the mask's columns; of other inputs, samples of which all is padding don't.

    Raises
    ------
    ValueError
        If a modality of ``train`` is constant, not finite, or padding alone.
    """
    scales = {}
    for name, values in train.inputs.items():
        present = _unpadded(values, train.padding.get(name)).double()
        mean, deviation = present.mean(), present.std(correction=0)
        if not (torch.isfinite(deviation) and deviation > 0):
            raise ValueError(
                f"train.inputs[{name!r}]: got standard deviation {deviation.item()}, "
                "expected a positive finite number"
            )
        scales[name] = (mean, deviation)

    def scaled(split: PairedDataset) -> PairedDataset:
        return split.with_inputs(
            **{
                name: ((split.inputs[name].double() - mean) / deviation).float()
                for name, (mean, deviation) in scales.items()
            }
        )

    return tuple(scaled(split) for split in (train, *others))


def _unpadded(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values
    by_token = values.ndim == 3 and values.shape[1] == mask.shape[1]
    return values[~mask] if by_token else values[~mask.all(dim=1)]


def corrupt_tokens(
    inputs: Tensor, patch: tuple[int, int], probability: float, generator: torch.Generator
) -> Tensor:
    """Replace each patch of a grid by standard normal noise with the given probability.

    Parameters
    ----------
    inputs : Tensor
        Grids ``[N, channels, H, W]``, standardised, so that unit variance is their own scale.
    patch : (int, int)
        Height and width of a patch, dividing ``H`` and ``W``.
    probability : float
        Chance of each patch of each sample, in [0, 1].
    generator : torch.Generator
        Source of the draws; the same state gives the same noise.

    Returns
    -------
    Tensor
        A new tensor of the same shape.

    Raises
    ------
    ValueError
        If the probability is outside [0, 1] or the patch does not divide the grid.
    """
    require_number("probability", probability, at_least=0, at_most=1)
    height, width = patch
    if inputs.ndim != 4 or inputs.shape[2] % height or inputs.shape[3] % width:
        raise ValueError(
            f"inputs: got shape {tuple(inputs.shape)}, expected [N, channels, H, W] with H and W "
            f"multiples of patch {tuple(patch)}"
        )
    n, _, rows, columns = inputs.shape
    hit = torch.rand(n, 1, rows // height, columns // width, generator=generator) < probability
    hit = hit.repeat_interleave(height, 2).repeat_interleave(width, 3)
    noise = torch.randn(inputs.shape, generator=generator)
    return torch.where(hit, noise, inputs)


def corrupt_splits(
    splits: Iterable[PairedDataset],
    patch: Mapping[str, tuple[int, int]],
    probability: float,
    seed: int,
) -> tuple[PairedDataset, ...]:
    """Apply :func:`corrupt_tokens` to every modality of every split, once.

    Each split has a generator of its own, so its noise does not depend on the others' sizes.
    Padding stays what it is.
    """
    require_integer("seed", seed, at_least=0)
    corrupted = []
    for position, split in enumerate(splits):
        state = np.random.SeedSequence([seed, position]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]) >> 1)
        noisy = {
            name: corrupt_tokens(split.inputs[name], patch[name], probability, generator)
            for name in sorted(split.inputs)
        }
        corrupted.append(split.with_inputs(**noisy))
    return tuple(corrupted)


def prepared(
    name: str,
    splits: Iterable[PairedDataset],
    patch: Mapping[str, tuple[int, int]],
    token_noise: float,
    seed: int,
) -> DataSplits:
    """Return pairs of digits ready to train on: standardised, then with some tokens made noise.

    ``splits`` are training, validation and test pairs of grids, and after them, if there are any,
    what is near and what is far outside of the test's classes; the classes are the ten digits.
    """
    train, validation, test, *others = corrupt_splits(
        standardise(*splits), patch, token_noise, seed
    )
    test.outside = dict(zip(("near", "far"), others, strict=False))
    return DataSplits(
        name=name,
        train=train,
        validation=validation,
        test=test,
        classes=tuple("0123456789"),
        patch=dict(patch),
        data_hash=hash_splits(train, validation, test, *others),
    )
