"""What the evaluations take: answers and labels, noise levels, and the modalities of a batch."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from numbers import Real

from torch import Tensor

from rollingq_core._padding import separated
from rollingq_core._tensors import as_labels, require_labels
from rollingq_core.data.dataset import PairedDataset


def require_answers(logits: object, labels: object) -> tuple[Tensor, Tensor]:
    """Return probabilities in float64, ``[N, C]``, and labels as int64, ``[N]``.

    Parameters
    ----------
    logits
        Shape ``[N, C]``, of any float type, not empty. A logit of minus infinity has
        probability 0.
    labels
        Integers from 0 to C - 1, shape ``[N]``.

    Raises
    ------
    ValueError
        Not such tensors, or logits that give no probabilities (NaN, plus infinity).
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise ValueError(f"logits: got {_kind(logits)}, expected a float tensor of shape [N, C]")
    if logits.dim() != 2 or 0 in logits.shape:
        raise ValueError(f"logits: got shape {list(logits.shape)}, expected [N, C], not empty")
    labels = as_labels(labels).cpu()
    require_labels("labels", labels, logits.shape[1])
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"labels: got shape {list(labels.shape)} with logits {list(logits.shape)}, "
            "expected [N] with [N, C]"
        )
    # Half precision would round probabilities, and is widened before the softmax.
    probabilities = logits.detach().cpu().double().softmax(dim=1)
    wrong = probabilities.isnan().any(dim=1)
    if wrong.any():
        raise ValueError(
            f"logits: got {int(wrong.sum())} rows of {len(wrong)} with NaN or infinity, "
            "expected finite numbers"
        )
    return probabilities, labels


def require_fraction(name: str, value: object) -> float:
    """Return ``value`` as a float when it is a number in [0, 1]."""
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if not isinstance(number, Real) or isinstance(number, bool) or not 0 <= float(number) <= 1:
        raise ValueError(f"{name}: got {value!r}, expected a number in [0, 1]")
    return float(number)


def require_levels(name: str, values: object, *, at_least: int = 1) -> list[float]:
    """Return noise levels as floats when they are numbers in [0, 1] that rise."""
    count = ("no", "one", "two")[at_least]
    wrong = ValueError(f"{name}: got {values!r}, expected {count} or more rising levels in [0, 1]")
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise wrong
    levels = [require_fraction(f"{name}[{i}]", level) for i, level in enumerate(values)]
    if len(levels) < at_least or any(after <= before for before, after in pairwise(levels)):
        raise wrong
    return levels


def modalities_of(dataset: PairedDataset) -> list[str]:
    """Return the names of a dataset's modalities; a padding mask beside one is none."""
    if not len(dataset):
        raise ValueError("dataset: got no sample, expected one or more")
    inputs, _ = dataset.__getitems__([0])
    return list(separated(inputs)[0])


def _kind(value: object) -> str:
    return f"dtype {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
