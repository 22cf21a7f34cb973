"""Noise at test time: what becomes of the answers when one modality fails."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rollingq_core._checks import require_number
from rollingq_core.data.dataset import PairedDataset
from rollingq_core.model import MultimodalModel, predict


def mix_noise(dataset: PairedDataset, modality: str, level: float, seed: int) -> PairedDataset:
    """Return the dataset with noise mixed into one modality, ``(1 - l) x + l e``, e ~ N(0, 1).

    The inputs are standardised, so that the noise has their own mean and variance. Level 0 gives
    the same bits, level 1 noise alone.

    Parameters
    ----------
    dataset
        Samples to disturb; not changed.
    modality
        Name of the modality.
    level
        l, in [0, 1].
    seed
        Seed of the draw; the same seed gives the same noise at each level.

    Raises
    ------
    ValueError
        A level out of range, or no such modality.
    """
    if require_number("level", level, at_least=0) > 1:
        raise ValueError(f"level: got {level}, expected a number in [0, 1]")
    if modality not in dataset.inputs:
        raise ValueError(f"modality: got {modality!r}, expected one of {list(dataset.inputs)}")
    clean = dataset.inputs[modality]
    if level == 0:
        return dataset
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return dataset.with_inputs(**{modality: (1 - level) * clean + level * noise})


def replace_with_noise(dataset: PairedDataset, modality: str, seed: int) -> PairedDataset:
    """Return the dataset with one modality replaced by N(0, 1) noise altogether."""
    return mix_noise(dataset, modality, 1.0, seed)


class NoiseResponse(NamedTuple):
    """Means over samples and draws at each noise level: ``accuracy`` [L], ``share`` [L, M]."""

    accuracy: Tensor
    share: Tensor


def under_noise(
    model: MultimodalModel,
    dataset: PairedDataset,
    modality: str,
    levels: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    draws: int = 3,
    seed: int = 0,
) -> NoiseResponse:
    """Return accuracy and attention shares at each noise level, from the same passes.

    Parameters
    ----------
    model, dataset
        A trained model and the samples to test it on.
    modality
        The modality that gets the noise.
    levels
        Levels of :func:`mix_noise`.
    draws, seed
        Number of draws, and the first one's seed.

    Raises
    ------
    ValueError
        A level out of range, no such modality, or no draw.
    """
    require_number("draws", draws, at_least=1)
    accuracy, share = [], []
    for level in levels:
        seeds = [seed] if level == 0 else range(seed, seed + draws)
        found = [predict(model, mix_noise(dataset, modality, level, s)) for s in seeds]
        accuracy.append(sum(one.accuracy for one in found) / len(found))
        share.append(torch.stack([one.share.mean(0) for one in found]).mean(0))
    return NoiseResponse(torch.tensor(accuracy), torch.stack(share))
