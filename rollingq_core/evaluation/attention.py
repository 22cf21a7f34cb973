"""Does attention react to the data? The share of one modality, normal and replaced by noise."""

from typing import NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor

from rollingq_core._checks import require_integer, require_tensor
from rollingq_core.data.dataset import PairedDataset
from rollingq_core.evaluation.noise import NoisyDataset
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import Predictions, predict, widened

# Values that the bootstrap draws at once: its memory does not grow with the samples.
DRAWN = 100_000
# Shares that differ by less are the same but for rounding, and correlate with nothing.
CONSTANT = 1e-6
NAMES = ("normal", "noisy")


class AttentionContrast(NamedTuple):
    """A model's answers on the same samples, normal and with one of its modalities noise instead.

    ``modality`` is the replaced one of the model's ``modalities``.
    """

    modality: str
    modalities: tuple[str, ...]
    normal: Predictions
    noisy: Predictions

    @property
    def index(self) -> int:  # type: ignore[override]  # in place of a tuple's method
        """Place of the replaced modality among the model's."""
        return self.modalities.index(self.modality)

    @property
    def share(self) -> tuple[Tensor, Tensor]:
        """Attention share of the replaced modality, each sample: normal ``[N]``, noisy ``[N]``."""
        normal, noisy = self.normal.share, self.noisy.share
        assert normal is not None  # `attention_contrast` has looked
        assert noisy is not None
        return normal[:, self.index], noisy[:, self.index]

    @property
    def pearson(self) -> float:
        """Correlation of the share with "is noise", in [-1, 1]; 0 where the share is constant.

        Negative where attention leaves the modality when it becomes noise. The paper reports the
        correlation with the opposite sign. A share that is not finite raises a ``ValueError``.
        """
        normal, noisy = (
            _wide(name, values) for name, values in zip(NAMES, self.share, strict=True)
        )
        share = torch.cat((normal, noisy))
        noise = torch.cat((torch.zeros(len(normal)), torch.ones(len(noisy))))
        if float(share.max() - share.min()) < CONSTANT:
            return 0.0
        return float(scipy.stats.pearsonr(share.numpy(), noise.numpy()).statistic)


class Sensitivity(NamedTuple):
    """How well a model's attention tells noise from data (the paper's Table 2, and more).

    ``pearson``: correlation of "is noise" with the mass that attention puts on the *other*
    modalities, so that it is positive where attention leaves the noise; ``p_value``: two-sided,
    too small because a sample and its noisy twin are not independent; ``low`` and ``high``: 95 %
    bootstrap interval of the correlation, samples drawn with their twins; ``auroc``: how well the
    share tells noise from data, where 0.5 is not at all.
    """

    pearson: float
    p_value: float
    low: float
    high: float
    auroc: float


def sensitivity(normal: Tensor, noisy: Tensor, resamples: int = 999, seed: int = 0) -> Sensitivity:
    """Return how well a modality's attention share detects that the modality is noise.

    Parameters
    ----------
    normal, noisy
        Share of each sample as it is, and with the modality replaced by noise, ``[N]`` each.
    resamples, seed
        Number and seed of the bootstrap's draws.

    Raises
    ------
    ValueError
        No resample, shares that are not finite floats, fewer than two samples, or shapes that
        differ.
    """
    resamples = require_integer("resamples", resamples, at_least=1)
    seed = require_integer("seed", seed, at_least=0)
    normal, noisy = (
        _wide(name, values) for name, values in zip(NAMES, (normal, noisy), strict=True)
    )
    if normal.shape != noisy.shape or len(normal) < 2:
        raise ValueError(
            f"noisy: got shape {list(noisy.shape)} with normal {list(normal.shape)}, "
            "expected [N] each, N at least 2"
        )
    # Here, as it takes longer to load than all the rest of the command line.
    from sklearn.metrics import roc_auc_score

    others = [1 - share.double().numpy() for share in (normal, noisy)]
    both = np.concatenate(others)
    if np.ptp(both) < CONSTANT:  # attention that can't move tells nothing
        return Sensitivity(0.0, 1.0, 0.0, 0.0, 0.5)
    is_noise = np.repeat([0, 1], len(normal))
    pearson = scipy.stats.pearsonr(both, is_noise)
    interval = scipy.stats.bootstrap(
        others,
        _correlation,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=resamples,
        batch=max(1, DRAWN // len(normal)),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    auroc = roc_auc_score(is_noise, both)
    low, high = float(interval.low), float(interval.high)
    return Sensitivity(float(pearson.statistic), float(pearson.pvalue), low, high, float(auroc))


def _correlation(normal: np.ndarray, noisy: np.ndarray, axis: int = -1) -> np.ndarray:
    # With an indicator of equal halves, Pearson's r is half the gap over the deviation.
    both = np.concatenate([normal, noisy], axis=axis)
    gap = noisy.mean(axis) - normal.mean(axis)
    varies = np.ptp(both, axis=axis) >= CONSTANT  # a draw of few samples may be constant
    return np.divide(gap, 2 * both.std(axis), out=np.zeros_like(gap), where=varies)


def _wide(name: str, share: Tensor) -> Tensor:
    """Return a share ``[N]`` that is finite, on the CPU, half precision as single."""
    return widened(require_tensor(name, share, ("N",)).detach().cpu())


def attention_contrast(
    model: MultimodalModel, dataset: PairedDataset, modality: str, seed: int = 0
) -> AttentionContrast:
    """Run a model on the normal samples and on the same with one modality replaced by noise.

    Parameters
    ----------
    model, dataset
        A trained model and standardised samples.
    modality
        The modality to replace.
    seed
        Seed of the noise.

    Raises
    ------
    ValueError
        No such modality, no sample, or a model without attention.
    """
    noisy = NoisyDataset(dataset, modality, 1.0, seed=seed)
    if modality not in model.modalities:
        raise ValueError(f"modality: got {modality!r}, expected one of {list(model.modalities)}")
    normal = predict(model, dataset)
    if normal.share is None:
        raise ValueError(
            f"model: got {type(model.fusion).__name__}, expected a fusion with attention"
        )
    return AttentionContrast(modality, model.modalities, normal, predict(model, noisy))
