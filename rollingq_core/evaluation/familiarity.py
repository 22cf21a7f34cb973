"""How far a sample lies from what a model was trained on: distances between average keys."""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.utils.data import Dataset

from rollingq_core._padding import padding_name
from rollingq_core.data.dataset import PairedDataset
from rollingq_core.evaluation.noise import NoisyDataset
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import as_parameter, batches, widened


class Familiarity(NamedTuple):
    """How far test samples lie from the nearest of training, by a modality's average keys.

    Medians, in units of the same for training samples themselves (each to the nearest other one):
    1 is as near as training samples lie to each other. ``normal``: of the test samples; ``noisy``:
    of the same with noise in place of the modality.
    """

    normal: float
    noisy: float


@torch.no_grad()
def average_keys(model: MultimodalModel, dataset: Dataset, modality: str) -> Tensor:
    """Return each sample's average key of a modality, ``[N, d]``, on the CPU.

    Raises
    ------
    ValueError
        No such modality, or a fusion without attention over the tokens of all modalities.
    """
    if modality not in model.modalities:
        raise ValueError(f"modality: got {modality!r}, expected one of {list(model.modalities)}")
    place, like = model.modalities.index(modality), next(model.parameters())
    taken = {*model.modalities, *map(padding_name, model.modalities)}
    found, training = [], model.training
    model.eval()
    try:
        for inputs, _ in batches(dataset, 256):
            own = {name: as_parameter(inputs[name], like) for name in inputs if name in taken}
            fusion = model(own).fusion
            if fusion.mean_keys is None:
                raise ValueError(
                    f"model: got {type(model.fusion).__name__}, expected a fusion with attention"
                )
            found.append(widened(fusion.mean_keys[:, place]).cpu())
    finally:
        model.train(training)
    return torch.cat(found)


def familiarity(
    model: MultimodalModel, training: Dataset, dataset: PairedDataset, modality: str, seed: int = 0
) -> Familiarity:
    """Tell how near test samples, and noise in their place, are to what was heard in training.

    Parameters
    ----------
    model
        A trained model with attention.
    training, dataset
        The samples that it was trained on, and those to test it on.
    modality
        The modality whose keys are compared, and that noise replaces.
    seed
        Seed of the noise.

    Raises
    ------
    ValueError
        As in :func:`average_keys`; or training samples that are one, or mostly the same.
    """
    known = average_keys(model, training, modality)
    if len(known) < 2:
        raise ValueError(f"training: got {len(known)} sample, expected at least 2")
    nearest = NearestNeighbors(n_neighbors=1).fit(known.numpy())
    # Asked for no keys, it tells of those it knows, each without itself.
    unit = float(np.median(nearest.kneighbors()[0]))
    if not unit > 0:
        raise ValueError("training: got samples most of which have a double, expected few such")
    noisy = NoisyDataset(dataset, modality, 1.0, seed=seed)
    medians = []
    for samples in (dataset, noisy):
        keys = average_keys(model, samples, modality).numpy()
        medians.append(float(np.median(nearest.kneighbors(keys)[0])) / unit)
    return Familiarity(*medians)
