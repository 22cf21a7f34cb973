"""Does attention react to the data? The share of one modality, normal and replaced by noise."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import bootstrap, pearsonr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from rollingq_core._checks import require_number
from rollingq_core.data.dataset import PairedDataset
from rollingq_core.evaluation.noise import NoisyDataset
from rollingq_core.model import MultimodalModel, Predictions, predict

# Values that the bootstrap draws at once: its memory does not grow with the samples.
DRAWN = 100_000


class AttentionContrast(NamedTuple):
    """A model's answers on the same samples, normal and with one modality replaced by noise."""

    modality: str
    index: int
    normal: Predictions
    noisy: Predictions

    @property
    def share(self) -> tuple[Tensor, Tensor]:
        """Attention share of the replaced modality, each sample: normal ``[N]``, noisy ``[N]``."""
        return self.normal.share[:, self.index], self.noisy.share[:, self.index]

    @property
    def pearson(self) -> float:
        """Correlation of the share with "is noise", in [-1, 1]; 0 where the share is constant.

        Negative where attention leaves the modality when it becomes noise. The paper reports the
        correlation with the opposite sign.
        """
        share = torch.cat(self.share)
        noise = torch.cat((torch.zeros(len(share) // 2), torch.ones(len(share) // 2)))
        if float(share.max() - share.min()) < 1e-6:
            return 0.0
        return float(pearsonr(share.numpy(), noise.numpy()).statistic)


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
        No resample, or shapes that differ.
    """
    require_number("resamples", resamples, at_least=1)
    if normal.dim() != 1 or normal.shape != noisy.shape:
        raise ValueError(
            f"noisy: got shape {list(noisy.shape)} with normal {list(normal.shape)}, "
            "expected [N] each"
        )
    normal, noisy = (1 - share.double().numpy() for share in (normal, noisy))
    both = np.concatenate([normal, noisy])
    if np.ptp(both) < 1e-6:  # attention that can't move tells nothing
        return Sensitivity(0.0, 1.0, 0.0, 0.0, 0.5)
    is_noise = np.repeat([0, 1], len(normal))
    found = pearsonr(both, is_noise)
    interval = bootstrap(
        (normal, noisy),
        _correlation,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=int(resamples),
        batch=max(1, DRAWN // len(normal)),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    auroc = roc_auc_score(is_noise, both)
    low, high = float(interval.low), float(interval.high)
    return Sensitivity(float(found.statistic), float(found.pvalue), low, high, float(auroc))


def _correlation(normal: np.ndarray, noisy: np.ndarray, axis: int = -1) -> np.ndarray:
    # With an indicator of equal halves, Pearson's r is half the gap over the deviation.
    both = np.concatenate([normal, noisy], axis=axis)
    return (noisy.mean(axis) - normal.mean(axis)) / (2 * both.std(axis))


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
        No such modality.
    """
    noisy = NoisyDataset(dataset, modality, 1.0, seed=seed)
    index = model.modalities.index(modality)
    return AttentionContrast(modality, index, predict(model, dataset), predict(model, noisy))
