"""Samples of no known class beside those that are tested: other digits, and other things.

Of the ten digits the first few are known. Pairs of the others are *near*: the same kind of sound
and picture. Pairs of a photograph's patch with a tone, a chirp or clicks are *far*. The
photographs are the two that scikit-learn ships; the sounds are librosa's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from rollingq_core._checks import require_integer
from rollingq_core.data import audio
from rollingq_core.data.dataset import DataSplits, PairedDataset, prepared

DIGITS = 10


def prepared_with_outside(
    name: str,
    splits: Sequence[PairedDataset],
    patch: Mapping[str, tuple[int, int]],
    token_noise: float,
    seed: int,
    known: int,
    brightest: float,
) -> DataSplits:
    """Return digits ready to train on, of which the test split tells what lies outside.

    Parameters
    ----------
    name, patch, token_noise, seed
        As in :func:`rollingq_core.data.dataset.prepared`.
    splits
        Training, validation and test pairs of all ten digits.
    known
        How many digits are classes, from 0 on: 2 to 10. With ten, nothing lies outside.
    brightest
        The value of a white pixel.

    Raises
    ------
    ValueError
        ``known`` is out of range.
    """
    known = require_integer("known_digits", known, at_least=2, at_most=DIGITS)
    if known == DIGITS:
        return prepared(name, splits, patch, token_noise, seed)
    inside = [_chosen(split, split.labels < known) for split in splits]
    near = _chosen(splits[-1], splits[-1].labels >= known)
    height, width = near.inputs["visual"].shape[2:]
    far = foreign(len(near), (height, width), brightest, seed)
    data = prepared(name, [*inside, _unlabelled(near), far], patch, token_noise, seed)
    return replace(data, classes=data.classes[:known])


def foreign(count: int, size: tuple[int, int], brightest: float, seed: int) -> PairedDataset:
    """Return pairs of a sound that is no speech and a picture that is no writing.

    Parameters
    ----------
    count
        Number of pairs.
    size
        Height and width of a picture.
    brightest
        The value of a white pixel.
    seed
        Seed of the draws.

    Returns
    -------
    PairedDataset
        ``audio [count, 1, 32, 49]`` and ``visual [count, 1, H, W]``; all labels are 0.
    """
    generator = np.random.default_rng([seed, DIGITS])
    sounds = np.stack([audio.log_mel(_sound(place, generator)) for place in range(count)])
    photographs = [photo.mean(axis=2) * (brightest / 255) for photo in _photographs()]
    pictures = np.stack(
        [_patch(photographs[place % len(photographs)], size, generator) for place in range(count)]
    )
    inputs = {
        "audio": torch.from_numpy(sounds)[:, None],
        "visual": torch.from_numpy(pictures.astype(np.float32))[:, None],
    }
    return PairedDataset(inputs, torch.zeros(count, dtype=torch.int64))


def _sound(place: int, generator: np.random.Generator) -> np.ndarray:
    librosa = audio.load_librosa()
    duration = audio.MEL_SAMPLES / audio.MEL_RATE
    low, high = np.sort(generator.uniform(100, audio.MEL_RATE / 2 - 100, 2))
    sounds = (
        lambda: librosa.tone(low, sr=audio.MEL_RATE, duration=duration),
        lambda: librosa.chirp(fmin=low, fmax=high, sr=audio.MEL_RATE, duration=duration),
        lambda: librosa.clicks(
            times=generator.uniform(0, duration, 4),
            sr=audio.MEL_RATE,
            click_freq=high,
            length=audio.MEL_SAMPLES,
        ),
    )
    # As loud as a spoken digit may be.
    return generator.uniform(0.1, 0.5) * sounds[place % len(sounds)]()


def _photographs() -> list[np.ndarray]:
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


def _patch(
    photograph: np.ndarray, size: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    top, left = (
        generator.integers(0, whole - part + 1)
        for whole, part in zip(photograph.shape, size, strict=True)
    )
    return photograph[top : top + size[0], left : left + size[1]]


def _chosen(split: PairedDataset, wanted: torch.Tensor) -> PairedDataset:
    inputs = {name: values[wanted] for name, values in split.inputs.items()}
    return PairedDataset(inputs, split.labels[wanted])


def _unlabelled(split: PairedDataset) -> PairedDataset:
    return PairedDataset(split.inputs, torch.zeros_like(split.labels))
