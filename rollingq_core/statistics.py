"""What is said of many seeds: means, 95 % intervals and paired differences."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rollingq_core._extras import needs

with needs("train"):
    import numpy as np
    import scipy  # whose rooms load when they are used

Rows = Sequence[Mapping[str, Any]]


def of_method(runs: Rows, method: str) -> list[Mapping[str, Any]]:
    """Return the runs of one method in the order of their seeds."""
    return sorted((run for run in runs if run["method"] == method), key=lambda run: run["seed"])


def signed(value: float, digits: int) -> str:
    """Return the number with its sign, and a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def starred(mean: float, half: float, digits: int = 1) -> str:
    """Return ``mean ± half``, with a star where that interval leaves 0 out."""
    star = "*" if abs(mean) > half else " "
    return f"{signed(mean, digits)} ± {half:.{digits}f}{star}"


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and half the width of its 95 % interval (Student's t)."""
    numbers = np.asarray(values, dtype=float)
    half = scipy.stats.t.ppf(0.975, len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers))
    return float(numbers.mean()), float(half)


def paired_difference(
    runs: Rows, method: str, baseline: str, value: Callable[[Mapping[str, Any]], float]
) -> tuple[float, float]:
    """Return the mean of ``method - baseline`` over shared seeds, and its 95 % half width.

    Raises
    ------
    ValueError
        The two methods were not run on the same seeds.
    """
    left, right = of_method(runs, method), of_method(runs, baseline)
    if [run["seed"] for run in left] != [run["seed"] for run in right]:
        raise ValueError(f"runs: seeds of {method!r} and {baseline!r} differ, expected the same")
    return mean_interval([value(a) - value(b) for a, b in zip(left, right, strict=True)])
