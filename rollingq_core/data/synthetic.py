"""Synthetic tokens in which audio speaks louder than vision: seconds to train on a CPU."""

import torch
from torch import Tensor

from rollingq_core._checks import require_integer, require_number
from rollingq_core.data.dataset import DataSplits, PairedDataset, hash_splits


def load(
    seed: int = 0,
    classes: int = 10,
    tokens: int = 8,
    features: int = 32,
    audio_strength: float = 3.0,
    visual_strength: float = 2.0,
    signal_probability: float = 0.5,
    train_samples: int = 2000,
    validation_samples: int = 500,
    test_samples: int = 2000,
) -> DataSplits:
    """Draw tokens ``noise + s * prototype(class)``, the signal present in some of them only.

    Each token is N(0, 1) noise of length ``features``. With ``signal_probability`` it also holds
    the unit-norm prototype of its class, scaled by the strength of its modality. The inputs are
    ``[N, tokens, features]`` for both modalities; they need no standardising and no patches.

    Parameters
    ----------
    seed : int
        Fixes prototypes, labels, noise and signal: the same seed gives the same tensors.
    classes, tokens, features : int
        Number of classes, tokens a modality, and features a token.
    audio_strength, visual_strength : float
        Length of the signal in each modality, in units of the noise's deviation per feature.
    signal_probability : float
        Chance that a token holds the signal, in [0, 1].
    train_samples, validation_samples, test_samples : int
        Size of each split.

    Raises
    ------
    ValueError
        If a size is no integer of at least 1, the seed is none of at least 0, a strength is not
        finite, or the probability is outside [0, 1].
    """
    sizes = {
        "classes": classes,
        "tokens": tokens,
        "features": features,
        "train_samples": train_samples,
        "validation_samples": validation_samples,
        "test_samples": test_samples,
    }
    for name, size in sizes.items():
        require_integer(name, size, at_least=1)
    require_integer("seed", seed, at_least=0)
    require_number("signal_probability", signal_probability, at_least=0, at_most=1)
    require_number("audio_strength", audio_strength)
    require_number("visual_strength", visual_strength)

    generator = torch.Generator().manual_seed(seed)
    strengths = {"audio": audio_strength, "visual": visual_strength}
    prototypes = {
        name: torch.nn.functional.normalize(
            torch.randn(classes, features, generator=generator), dim=-1
        )
        for name in strengths
    }

    def draw(samples: int) -> PairedDataset:
        labels = torch.randint(classes, (samples,), generator=generator)

        def modality(name: str) -> Tensor:
            noise = torch.randn(samples, tokens, features, generator=generator)
            present = torch.rand(samples, tokens, 1, generator=generator) < signal_probability
            return noise + strengths[name] * present * prototypes[name][labels][:, None]

        return PairedDataset({name: modality(name) for name in strengths}, labels)

    train, validation, test = draw(train_samples), draw(validation_samples), draw(test_samples)
    return DataSplits(
        name="synthetic",
        train=train,
        validation=validation,
        test=test,
        classes=tuple(f"class {index}" for index in range(classes)),
        patch=None,
        data_hash=hash_splits(train, validation, test),
    )
