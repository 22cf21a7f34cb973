r"""PMR: the slower modality learns from prototypes of the classes (Fan et al. 2023).

A prototype :math:`p^m_c` is the mean feature of class c. With
:math:`\mathrm{sim}^m = -\lVert f^m - p^m_c \rVert_2`, the slower modality's encoder gets the
cross-entropy of :math:`\mathrm{sim}^m` beside the loss of the fusion.
"""

from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from rollingq_core._checks import require_choice, require_integer, require_number
from rollingq_core._padding import padding_name
from rollingq_core.models.multimodal import ModelOutput, MultimodalModel
from rollingq_core.models.predictions import as_parameter, batches, widened
from rollingq_core.settings import LARGEST_SEED
from rollingq_core.training.observer import Observer

# Beside a squared distance, where the root would have no gradient.
SMALLEST = 1e-12


def similarities(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return minus the distance of each feature ``[B, d]`` to each prototype ``[C, d]``.

    A class that has no prototype (a row of NaN) is infinitely far.

    Examples
    --------
    >>> similarities(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 2.0], [4.0, 5.0]]))
    tensor([[-1., -5.]])
    """
    known = prototypes.isfinite().all(dim=1)
    # Not through matrix products, which lose the digits of small distances; nor in half precision,
    # in which the smallest number beside a square would be 0.
    squares = (widened(features).unsqueeze(1) - prototypes.nan_to_num(0)).square().sum(dim=-1)
    return -(squares + SMALLEST).sqrt().masked_fill(~known, torch.inf)


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return each class's mean feature, ``[C, d]``; NaN for a class that is not there.

    Examples
    --------
    >>> class_means(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), 2)
    tensor([[2.],
            [nan]])
    """
    sums = features.new_zeros(num_classes, features.shape[1]).index_add(0, labels, features)
    return sums / labels.bincount(minlength=num_classes).unsqueeze(1)


def moved(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """Return prototypes part of the way from old to new; ``momentum`` weighs the old ones.

    A class that is not among the new keeps its old prototype, and one that had none takes the new.

    Examples
    --------
    >>> moved(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [torch.nan]]), momentum=0.2)
    tensor([[0.8000],
            [2.0000]])
    """
    both = (1 - momentum) * new + momentum * old
    return torch.where(new.isnan(), old, torch.where(old.isnan(), new, both))


def slowness(scores: Tensor, switch: str) -> Tensor:
    """Return how much each modality is helped, ``[M]``, by its score against the best one's.

    ``"hard"``, as in the published code, is 1 for all that are behind; ``"soft"``, as in the
    paper, is how far they are behind, at most 1.

    Examples
    --------
    >>> slowness(torch.tensor([1.761594, 1.0]), "soft")
    tensor([0.0000, 0.7616])
    """
    ratio = scores.max() / scores.clamp(min=torch.finfo(scores.dtype).tiny)
    return (ratio > 1).to(scores) if switch == "hard" else (ratio - 1).clamp(0, 1)


class PMR(Observer):
    """Prototypical modality rebalance, on the features that stand for the modalities.

    Where several processes train, each judges its part of a batch by itself. Not here: the
    paper's entropy penalty on the better modality, which its code lacks too.

    Parameters
    ----------
    alpha
        Weight of the prototypes' cross-entropy, at least 0.
    momentum
        Weight of the old prototypes as they move, in [0, 1]. Those that the first epoch leaves
        replace the ones before it.
    fraction
        Fraction of the training batches, shuffled, that prototypes are made of, in (0, 1].
    switch
        ``"hard"`` or ``"soft"``: see :func:`slowness`.
    batch_size, seed
        Of those batches, and of their order.

    Raises
    ------
    ValueError
        An option out of range.
    """

    name = "pmr"

    def __init__(
        self,
        alpha: float = 1.0,
        momentum: float = 0.2,
        *,
        fraction: float = 0.1,
        switch: Literal["hard", "soft"] = "hard",
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        self.alpha = require_number("alpha", alpha, at_least=0)
        self.momentum = require_number("momentum", momentum, at_least=0, at_most=1)
        self.fraction = require_number("fraction", fraction, above=0, at_most=1)
        require_choice("switch", switch, ("hard", "soft"))
        self.switch = switch
        self.batch_size = require_integer("batch_size", batch_size, at_least=1)
        self.seed = require_integer("seed", seed, at_least=0, at_most=LARGEST_SEED)
        self.epoch = 0
        self.prototypes: dict[str, Tensor] = {}

    def start(self, model: MultimodalModel, train: Dataset) -> None:
        """Make the first prototypes."""
        self.epoch = 0
        self.prototypes = self._means(model, train)

    def extra_loss(self, output: ModelOutput, labels: Tensor) -> Tensor:
        """Return the prototypes' cross-entropy of the modalities that are behind."""
        entropies, confidences = [], []
        for name, features in output.features.items():
            logits = similarities(features, self.prototypes[name].to(features.device))
            own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
            counts = _present(features) & own.isfinite()
            logits, answers = logits[counts], labels[counts]
            # Without a sample the loss is zero, and the same parameters take part.
            mean = cross_entropy(logits, answers) if len(answers) else 0 * features.sum()
            entropies.append(mean)
            right = logits.detach().softmax(dim=1)[torch.arange(len(answers)), answers]
            confidences.append(right.sum() / max(1, len(answers)))
        weights = slowness(torch.stack(confidences), self.switch)
        return self.alpha * (weights * torch.stack(entropies)).sum()

    def end_epoch(self, model: MultimodalModel, train: Dataset) -> dict[str, Any]:
        """Move the prototypes to where the features are now."""
        self.epoch += 1
        momentum = self.momentum if self.epoch > 1 else 0.0
        self.prototypes = {
            name: moved(self.prototypes[name], new, momentum)
            for name, new in self._means(model, train).items()
        }
        return {}

    @torch.no_grad()
    def _means(self, model: MultimodalModel, train: Dataset) -> dict[str, Tensor]:
        training = model.training
        model.eval()
        like = next(model.parameters())
        taken = {*model.modalities, *map(padding_name, model.modalities)}
        order = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        loader = batches(train, self.batch_size, order, classes=model.num_classes)
        features: dict[str, list[Tensor]] = {name: [] for name in model.modalities}
        answers: list[Tensor] = []
        for inputs, labels in islice(loader, max(1, int(self.fraction * len(loader)))):
            own = {name: as_parameter(inputs[name], like) for name in inputs if name in taken}
            answers.append(labels.to(like.device))
            for name, feature in model(own, fuse=False).features.items():
                features[name].append(feature.float())
        model.train(training)
        labels = torch.cat(answers)
        means = {}
        for name, pieces in features.items():
            feature = torch.cat(pieces)
            there = _present(feature)
            means[name] = class_means(feature[there], labels[there], model.num_classes)
        return means

    @property
    def identity(self) -> dict[str, Any]:
        """All options."""
        options = ("alpha", "momentum", "fraction", "switch", "batch_size", "seed")
        return {name: getattr(self, name) for name in options}

    def state_dict(self) -> dict[str, Any]:
        """Return the prototypes and the number of epochs they have seen."""
        return {"epoch": self.epoch, "prototypes": dict(self.prototypes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.epoch, self.prototypes = state["epoch"], dict(state["prototypes"])


def _present(features: Tensor) -> Tensor:
    """Tell which samples have the modality: a feature is all zeros where it is missing."""
    return (features != 0).any(dim=1)
