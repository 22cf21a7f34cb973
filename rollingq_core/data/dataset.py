"""Paired samples in memory, and the preparation every dataset of the book shares."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class PairedDataset(Dataset):
    """Samples of several modalities that share one label each, held in memory.

    Parameters
    ----------
    inputs : mapping of str to Tensor
        Modality name to a tensor ``[N, ...]``; kept as float32.
    labels : Tensor
        Class indices ``[N]``; kept as int64.

    Raises
    ------
    ValueError
        If there is no modality, ``labels`` is not one-dimensional, or the lengths differ.
    """

    def __init__(self, inputs: Mapping[str, Tensor], labels: Tensor):
        if not inputs:
            raise ValueError("inputs: got no modality, expected at least one")
        labels = torch.as_tensor(labels)
        if labels.ndim != 1:
            raise ValueError(f"labels: got shape {tuple(labels.shape)}, expected [N]")
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"labels: got dtype {labels.dtype}, expected integers")
        self.labels = labels.to(torch.int64)
        self.inputs = {
            name: torch.as_tensor(values).to(torch.float32) for name, values in inputs.items()
        }
        for name, values in self.inputs.items():
            if values.ndim < 2 or len(values) != len(labels):
                raise ValueError(
                    f"inputs[{name!r}]: got shape {tuple(values.shape)}, "
                    f"expected [{len(labels)}, ...] to match labels"
                )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        return {name: values[index] for name, values in self.inputs.items()}, self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the samples at ``indices`` as one batch; use with an identity ``collate_fn``."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return {name: values[chosen] for name, values in self.inputs.items()}, self.labels[chosen]

    def with_inputs(self, **tensors: Tensor) -> "PairedDataset":
        """Return a dataset with the same labels and some modalities replaced.

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
        return PairedDataset({**self.inputs, **tensors}, self.labels)


@dataclass(frozen=True)
class DataSplits:
    """A dataset cut into training, validation and test samples.

    Attributes
    ----------
    name : str
        Name that ``load_dataset`` knows it by.
    train, validation, test : PairedDataset
        The three splits; validation chooses, test reports. Large datasets have a
        :class:`rollingq_core.data.cache.CachedDataset` each, which holds no tensors.
    classes : tuple of str
        Class names, in label order.
    patch : dict of str to (int, int), or None
        Height and width of the patch that becomes one token; None if inputs are tokens already.
    data_hash : str
        SHA-256 over all tensors of all splits (see :func:`hash_splits`), or that of a cache and
        the name of its split.
    """

    name: str
    train: PairedDataset
    validation: PairedDataset
    test: PairedDataset
    classes: tuple[str, ...]
    patch: dict[str, tuple[int, int]] | None
    data_hash: str


def hash_splits(*splits: PairedDataset) -> str:
    """Return the SHA-256 (hex) over names, shapes and values of all tensors, in order."""
    digest = hashlib.sha256()
    for split in splits:
        for name, values in [*sorted(split.inputs.items()), ("labels", split.labels)]:
            array = np.ascontiguousarray(values.numpy())
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def standardise(train: PairedDataset, *others: PairedDataset) -> tuple[PairedDataset, ...]:
    """Subtract the mean and divide by the standard deviation of the training split.

    One scalar mean and one scalar deviation per modality, taken from ``train`` only and applied
    to every split.

    Raises
    ------
    ValueError
        If a modality of ``train`` is constant or not finite.
    """
    scales = {}
    for name, values in train.inputs.items():
        mean, deviation = values.double().mean(), values.double().std(correction=0)
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
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: got {probability}, expected a number in [0, 1]")
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
    """
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

    ``splits`` are training, validation and test pairs of grids; the classes are the ten digits.
    """
    train, validation, test = corrupt_splits(standardise(*splits), patch, token_noise, seed)
    return DataSplits(
        name=name,
        train=train,
        validation=validation,
        test=test,
        classes=tuple("0123456789"),
        patch=dict(patch),
        data_hash=hash_splits(train, validation, test),
    )
