"""Does attention react to the data? The share of one modality, normal and replaced by noise."""

from typing import NamedTuple

import torch
from scipy.stats import pearsonr
from torch import Tensor

from rollingq_core.data.dataset import PairedDataset
from rollingq_core.evaluation.noise import NoisyDataset
from rollingq_core.model import MultimodalModel, Predictions, predict


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
