"""Two modalities that disagree: whom the model follows, and whether attention says so."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rollingq_core._checks import require_integer
from rollingq_core._padding import padding_name
from rollingq_core._tensors import as_labels
from rollingq_core.data.dataset import PairedDataset
from rollingq_core.evaluation.answers import modalities_of, require_answers
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import predict


class ConflictDataset(Dataset):
    """Samples in which one modality is of another sample, of another class.

    Parameters
    ----------
    dataset
        Samples as in :class:`rollingq_core.data.PairedDataset`, with ``labels``.
    modality
        The modality that is swapped, with its padding mask if it has one; the label stays that of
        the others.
    seed
        Seed of the pairing.

    Attributes
    ----------
    kept
        Indices of the N samples that are used: those with the modality and another one.
    partners
        Index of the sample whose modality each of them gets, ``[N]``.
    swapped_labels
        That sample's label, ``[N]``.

    Raises
    ------
    ValueError
        No such modality, labels that are no class indices, or all samples are of one class.
    """

    def __init__(self, dataset: PairedDataset, modality: str, seed: int = 0) -> None:
        names = modalities_of(dataset)
        if modality not in names:
            raise ValueError(f"modality: got {modality!r}, expected one of {names}")
        seed = require_integer("seed", seed, at_least=0)
        # Where a sample lacks the modality, or has no other, nothing disagrees.
        self.kept = _with_both(dataset, modality, names)
        self.labels = as_labels(dataset.labels).cpu()[self.kept]
        labels = self.labels.numpy()
        if not len(labels) or (labels == labels[0]).all():
            classes = f"class {labels[0]} only" if len(labels) else "no sample with modalities"
            raise ValueError(f"dataset: got {classes}, expected two or more classes")
        self.dataset, self.modality = dataset, modality
        # In class order, a random step past the rest of the own class meets only other classes.
        generator = np.random.default_rng(seed)
        order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        own = counts[labels]
        step = generator.integers(0, len(labels) - own)
        chosen = torch.from_numpy(order[(first[labels] + own + step) % len(labels)])
        self.partners = self.kept[chosen]
        self.swapped_labels = self.labels[chosen]

    def __len__(self) -> int:
        return len(self.partners)

    def __getitems__(self, indices) -> tuple[dict[str, Tensor], Tensor]:
        """Return the samples at ``indices`` as one batch."""
        inputs, labels = self.dataset.__getitems__(self.kept[torch.as_tensor(indices)].tolist())
        chosen = self.partners[torch.as_tensor(indices)].tolist()
        swapped, _ = self.dataset.__getitems__(chosen)
        own = {self.modality, padding_name(self.modality)}
        return inputs | {name: swapped[name] for name in swapped if name in own}, labels


def _with_both(dataset: PairedDataset, modality: str, names: Sequence[str]) -> Tensor:
    """Return which samples have the modality and another one, as far as their masks tell."""
    padding = getattr(dataset, "padding", {})
    everyone = torch.ones(len(dataset), dtype=torch.bool)
    has = {name: ~padding[name].all(dim=1) if name in padding else everyone for name in names}
    others = torch.stack([has[name] for name in names if name != modality] or [everyone])
    return (has[modality] & others.any(dim=0)).nonzero().squeeze(1)


class ConflictReport(NamedTuple):
    """Whom the model follows where the modalities disagree.

    ``follows``: by modality, the part of samples whose answer is that modality's class (for all
    but the swapped one it is the label); ``neither``, the rest; ``share``: mean attention mass of
    the swapped modality among the samples that follow it, and among those that follow the others
    (None where there is none); ``auroc``: how well that mass tells the two groups apart, from 0
    to 1, 0.5 being not at all (None where one group is empty).
    """

    follows: dict[str, float]
    neither: float
    share: tuple[float | None, float | None]
    auroc: float | None


def conflict(
    model: MultimodalModel, dataset: PairedDataset, modality: str | None = None, seed: int = 0
) -> ConflictReport:
    """Swap one modality for that of another class, and see whom the answers follow.

    Parameters
    ----------
    model, dataset
        A trained model of two or more modalities, with attention, and samples to test it on.
    modality, seed
        As in :class:`ConflictDataset`; the model's first modality by default.

    Raises
    ------
    ValueError
        As :class:`ConflictDataset`; or the model has one modality, no attention, or not these
        classes, or its answers are not finite.
    """
    if len(model.modalities) < 2:
        raise ValueError(f"model: got modalities {list(model.modalities)}, expected two or more")
    modality = model.modalities[0] if modality is None else modality
    swapped = ConflictDataset(dataset, modality, seed)
    predictions = predict(model, swapped)
    if predictions.share is None:
        raise ValueError(
            f"model: got {type(model.fusion).__name__}, expected a fusion with attention"
        )
    require_answers(predictions.logits, predictions.labels)
    answers = predictions.logits.argmax(dim=1)
    with_it, against = answers == swapped.swapped_labels, answers == predictions.labels
    share = predictions.share[:, model.modalities.index(modality)]
    others = dict.fromkeys(model.modalities, float(against.float().mean()))
    torn = with_it | against
    auroc = None
    # Here, as it takes longer to load than all the rest of the command line.
    from sklearn.metrics import roc_auc_score

    if with_it.any() and against.any():
        auroc = float(roc_auc_score(with_it[torn].numpy(), share[torn].numpy()))
    follower, other = (
        float(share[group].mean()) if group.any() else None for group in (with_it, against)
    )
    return ConflictReport(
        others | {modality: float(with_it.float().mean())},
        float((~torn).float().mean()),
        (follower, other),
        auroc,
    )
