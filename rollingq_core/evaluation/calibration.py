"""Does a model know when it can't know? Confidence beside accuracy."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from rollingq_core._checks import require_number


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

    Parameters
    ----------
    logits, labels
        Shapes ``[N, C]`` and ``[N]``.
    bins
        Number of bins K in [0, 1].

    Raises
    ------
    ValueError
        No bin, or shapes that do not match.
    """
    bins = int(require_number("bins", bins, at_least=1))
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"labels: got shape {list(labels.shape)} with logits {list(logits.shape)}, "
            "expected [N] with [N, C], not empty"
        )
    probabilities = logits.double().softmax(dim=1)
    ece = multiclass_calibration_error(
        probabilities, labels, num_classes=logits.shape[1], n_bins=bins, validate_args=False
    )
    confidence, answers = probabilities.max(dim=1)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    place = torch.bucketize(confidence, edges)
    right = (answers == labels).double()
    counts = torch.bincount(place, minlength=bins)
    sums = [torch.bincount(place, weights, bins) for weights in (confidence, right)]
    means = [total / counts.clamp(min=1) for total in sums]
    return Calibration(float(ece), torch.stack([counts / len(labels), *means], dim=1))
