"""Does a model know when it can't know? Confidence beside accuracy."""

from typing import NamedTuple

import torch
from torch import Tensor

from rollingq_core._checks import require_integer
from rollingq_core.evaluation.answers import require_answers

# Single precision's rounding below 1: a confidence so close to an edge counts as being on it.
ROUNDING = 2.0**-24


class Calibration(NamedTuple):
    """Expected calibration error in [0, 1], and the reliability behind it, a row a bin.

    ``reliability`` [K, 3] has the part of all samples in the bin, their mean confidence and their
    accuracy (both 0 in an empty bin).
    """

    ece: float
    reliability: Tensor


def calibration(logits: Tensor, labels: Tensor, bins: int = 15) -> Calibration:
    r"""Compare confidence (the largest probability) with accuracy, in bins of equal width.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{N}\, |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    Bin b of K holds confidences above (b - 1)/K, up to and with b/K (Guo et al. 2017); one within
    single precision's rounding of an edge is on it. The error is that of these very bins.

    Parameters
    ----------
    logits, labels
        Shapes ``[N, C]``, of any float type, and ``[N]``, integers from 0 to C - 1.
    bins
        Number of bins K in [0, 1].

    Raises
    ------
    ValueError
        No bin, labels that are no class, logits with a NaN, or shapes that do not match.
    """
    bins = require_integer("bins", bins, at_least=1)
    probabilities, labels = require_answers(logits, labels)
    confidence, answers = probabilities.max(dim=1)
    right = (answers == labels).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    place = torch.bucketize(confidence, edges + ROUNDING)
    counts = torch.bincount(place, minlength=bins)
    sums = [torch.bincount(place, weights, bins) for weights in (confidence, right)]
    means = [total / counts.clamp(min=1) for total in sums]
    reliability = torch.stack([counts / len(labels), *means], dim=1)
    return Calibration(expected_error(reliability), reliability)


def expected_error(reliability: Tensor) -> float:
    """Return the expected calibration error of the bins of a reliability ``[K, 3]``."""
    weight, confidence, accuracy = reliability.double().T
    return float((weight * (accuracy - confidence).abs()).sum())
