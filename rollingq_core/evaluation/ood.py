"""How well confidence tells known classes from all else (Table 10)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rollingq_core._checks import require_integer, require_number, require_tensor
from rollingq_core.data.dataset import PairedDataset
from rollingq_core.evaluation.answers import require_answers
from rollingq_core.evaluation.conflict import ConflictDataset
from rollingq_core.evaluation.noise import NoisyDataset
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import predict

# The exponent of the generalised entropy, and how much of the positives a rate is told at.
GAMMA = 0.1
CAUGHT = 0.95


def generalised_entropy(
    probabilities: Tensor, gamma: float = GAMMA, top: int | None = None
) -> Tensor:
    r"""Return the score GEN of probabilities ``[N, C]``, higher where a model is surer, ``[N]``.

    .. math:: -\sum_{c=1}^{M} p_c^\gamma (1 - p_c)^\gamma

    over the M largest (Liu et al. 2023); all of them by default.

    Raises
    ------
    ValueError
        No such probabilities, an exponent outside (0, 1], or more classes than there are.

    Examples
    --------
    >>> generalised_entropy(torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)).round(decimals=4)
    tensor([-2.4741], dtype=torch.float64)
    """
    values = require_tensor("probabilities", probabilities, ("N", "C")).double()
    if (values < 0).any() or (values > 1).any():
        raise ValueError("probabilities: got numbers outside of [0, 1]")
    gamma = require_number("gamma", gamma, above=0, at_most=1)
    top = values.shape[1] if top is None else top
    top = require_integer("top", top, at_least=1, at_most=values.shape[1])
    largest = values.topk(top, dim=1).values
    return -(largest**gamma * (1 - largest) ** gamma).sum(dim=1)


def confidences(logits: Tensor) -> dict[str, Tensor]:
    """Return each score of confidence of logits ``[N, C]``, in float64, ``[N]``.

    ``gen``; ``energy``, the logarithm of the sum of exponentials; ``softmax``, the largest
    probability; ``entropy``, negative in nats. All are higher where a model is surer.
    """
    wide = require_tensor("logits", logits, ("N", "C")).detach().cpu().double()
    probabilities = wide.softmax(dim=1)
    return {
        "gen": generalised_entropy(probabilities),
        "energy": wide.logsumexp(dim=1),
        "softmax": probabilities.max(dim=1).values,
        "entropy": torch.special.entr(probabilities).sum(dim=1).neg(),
    }


class Separation(NamedTuple):
    """How well a score tells inside from outside.

    ``auroc``, from 0 to 1, 0.5 being not at all; ``flagged``: the part of what is inside that is
    taken for outside where 95 % of the outside is caught (FPR95 as MultiOOD has it, the paper's);
    ``accepted``: the part of the outside that is taken for inside where 95 % of the inside is
    (FPR95 as it is mostly defined).
    """

    auroc: float
    flagged: float
    accepted: float


def separation(inside: Tensor, outside: Tensor) -> Separation:
    """Compare the scores of samples inside ``[N]`` and outside ``[K]`` of the known classes.

    Each rate is at the first threshold that catches at least 95 %.

    Raises
    ------
    ValueError
        No score on a side, or scores that are not finite numbers.

    Examples
    --------
    >>> separation(torch.tensor([5.0, 4, 3, 2, 1]), torch.tensor([3.5, 0.5, 0, -1]))
    Separation(auroc=0.85, flagged=0.6, accepted=0.25)
    """
    from sklearn.metrics import roc_auc_score

    sides = {"inside": inside, "outside": outside}
    inside, outside = (require_tensor(name, side, ("N",)).double() for name, side in sides.items())
    scores = torch.cat([inside, outside]).cpu().numpy()
    is_inside = np.repeat([1, 0], [len(inside), len(outside)])
    auroc = float(roc_auc_score(is_inside, scores))
    flagged = _rate_at_caught(1 - is_inside, -scores)
    return Separation(auroc, flagged, _rate_at_caught(is_inside, scores))


def _rate_at_caught(positive: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import roc_curve

    wrong, right, _ = roc_curve(positive, scores, drop_intermediate=False)
    return float(wrong[np.argmax(right >= CAUGHT)])


class Detection(NamedTuple):
    """A model's confidence in what it knows and in what it can't know.

    ``accuracy`` on the known classes; then :class:`Separation` by kind of outside and score, as
    ``"KIND SCORE"``: ``auroc``, ``flagged`` and ``accepted``.
    """

    accuracy: float
    auroc: dict[str, float]
    flagged: dict[str, float]
    accepted: dict[str, float]


def detection(
    model: MultimodalModel, dataset: PairedDataset, modality: str, seed: int = 0
) -> Detection:
    """Tell known samples from others by a trained model's confidence.

    What is outside is what the dataset says (its ``outside``, by kind), and of any data two kinds
    more: ``noise`` in place of all modalities; and, with two or more modalities, ``mismatched``,
    where one is that of a sample of another class.

    Parameters
    ----------
    model, dataset
        A trained model and samples to test it on.
    modality
        The one that is mismatched.
    seed
        Seed of noise and mismatches.

    Raises
    ------
    ValueError
        No such modality, no sample, samples outside of another shape, or answers that are not
        finite.
    """
    noise = NoisyDataset(dataset, model.modalities, 1.0, seed=seed)
    others: dict[str, Dataset] = dict(getattr(dataset, "outside", {}))
    if len(model.modalities) > 1:
        others["mismatched"] = ConflictDataset(dataset, modality, seed)
    others["noise"] = noise
    known = predict(model, dataset)
    require_answers(known.logits, known.labels)
    inside = confidences(known.logits)
    separated = {kind: _separations(model, kind, other, inside) for kind, other in others.items()}
    auroc, flagged, accepted = (
        {
            f"{kind} {score}": values[place]
            for kind, scores in separated.items()
            for score, values in scores.items()
        }
        for place in range(3)
    )
    return Detection(known.accuracy, auroc, flagged, accepted)


def _separations(
    model: MultimodalModel, kind: str, other: Dataset, inside: Mapping[str, Tensor]
) -> dict[str, Separation]:
    logits = predict(model, other).logits
    if not logits.isfinite().all():
        raise ValueError(f"dataset: got answers on {kind} samples with NaN or infinity")
    outside = confidences(logits)
    return {score: separation(values, outside[score]) for score, values in inside.items()}
