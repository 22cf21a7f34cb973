"""What is said of many seeds: means, 95 % intervals and paired differences."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from rollingq_core._extras import needs

with needs("train"):
    import numpy as np
    import scipy  # whose rooms load when they are used

Rows = Sequence[Mapping[str, Any]]
Value = Callable[[Mapping[str, Any]], float]
Key = TypeVar("Key")


class Difference(NamedTuple):
    """One of several paired differences.

    Parameters
    ----------
    mean, half
        Mean difference over shared seeds, and half the width of its 95 % interval.
    p_value
        Two-sided, as it is.
    corrected
        The same, corrected for the number of differences by Holm's method.
    """

    mean: float
    half: float
    p_value: float
    corrected: float

    @property
    def holds(self) -> bool:
        """Whether it is clear after the correction, at 5 %."""
        return self.corrected < 0.05


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


def of_shared_seeds(runs: Rows, *names: str) -> Rows:
    """Return the runs of some methods at the seeds that all of them were run on."""
    seeds = [{run["seed"] for run in of_method(runs, name)} for name in names]
    shared = set.intersection(*seeds)
    return [run for run in runs if run["method"] in names and run["seed"] in shared]


def paired_difference(runs: Rows, method: str, baseline: str, value: Value) -> tuple[float, float]:
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


def paired_p_value(runs: Rows, method: str, baseline: str, value: Value) -> float:
    """Return the two-sided p-value of :func:`paired_difference`, of Student's t over shared seeds.

    Differences that are all 0 give 1.
    """
    shared = of_shared_seeds(runs, method, baseline)
    left, right = ([value(run) for run in of_method(shared, name)] for name in (method, baseline))
    if left == right:
        return 1.0
    return float(scipy.stats.ttest_rel(left, right).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's method, in the order given.

    The smallest is multiplied by their number, the next by one less, and so on; none comes out
    smaller than one before it.

    Examples
    --------
    >>> holm([0.01, 0.2, 0.02])
    [0.03, 0.2, 0.04]
    """
    numbers = np.asarray(p_values, dtype=float)
    order = numbers.argsort()
    scaled = numbers[order] * np.arange(len(numbers), 0, -1)
    corrected = np.empty_like(numbers)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected.tolist()


def paired_differences(
    questions: Mapping[Key, tuple[Rows, str, str, Value]],
) -> dict[Key, Difference]:
    """Return the paired difference of each question, with p-values corrected together.

    Parameters
    ----------
    questions
        What :func:`paired_difference` takes, by any key: runs, method, baseline and value. Seeds
        that only one of the two methods was run on are left out.

    Examples
    --------
    >>> rows = ("a", 0, 1), ("a", 1, 1), ("b", 0, 3), ("b", 1, 4)
    >>> runs = [dict(zip(("method", "seed", "x"), row, strict=True)) for row in rows]
    >>> found = paired_differences({"gain": (runs, "b", "a", lambda run: run["x"])})
    >>> found["gain"].mean
    2.5
    """
    found = []
    for runs, method, baseline, value in questions.values():
        inputs = of_shared_seeds(runs, method, baseline), method, baseline, value
        found.append((*paired_difference(*inputs), paired_p_value(*inputs)))
    corrected = holm([p_value for *_, p_value in found])
    told = (Difference(*one, p) for one, p in zip(found, corrected, strict=True))
    return dict(zip(questions, told, strict=True))
