"""A record of a sweep over rho and beta, and what its runs say of each of its points."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from rollingq_core.explorer._page import with_error, written
from rollingq_core.statistics import paired_difference

Run = Mapping[str, Any]

# Name: title, digits in the readout, and a run's values over the epochs.
CURVES: dict[str, tuple[str, int, Callable[[Run], Sequence[float]]]] = {
    "air": ("AIR", 2, lambda run: run["air"]),
    "share": ("audio’s attention share", 2, lambda run: run["share"]),
    "query_norm": ("|q|", 1, lambda run: run["query_norm"]),
    "validation_accuracy": (
        "validation accuracy, %",
        1,
        lambda run: [100 * a for a in run["validation_accuracy"]],
    ),
}


class Point(NamedTuple):
    """Mean and sd over seeds of each curve, the share of seeds turned by epoch, and all texts."""

    curves: dict[str, tuple[np.ndarray, np.ndarray]]
    rotations: np.ndarray
    texts: dict[str, str]


class Grid:
    """A grid of rho and beta, and the runs of each of its points.

    Parameters
    ----------
    record
        As :class:`rollingq_core.explorer.TrainingMap` takes it.

    Raises
    ------
    ValueError
        Fewer than two seeds, or a point without exactly one run at each seed.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.rhos, self.betas = record["rhos"], record["betas"]
        self.seeds, self.levels, self.runs = record["seeds"], record["levels"], record["runs"]
        if len(self.seeds) < 2:
            raise ValueError(f"record: got {len(self.seeds)} seeds, expected at least 2")
        self.epochs = len(self.runs[0]["air"])
        self._vanilla = [run for run in self.runs if run["method"] == "mt"]
        owners: dict[tuple[int, ...], list[int]] = {}
        for index, run in enumerate(self.runs):
            for cell in run["cells"]:
                owners.setdefault((*cell, run["seed"]), []).append(index)
        # Points with the same runs are one; each cell has the index of its own.
        self._groups: list[tuple[int, ...]] = []
        self.cells: list[int] = []
        for cell in product(range(len(self.rhos)), range(len(self.betas))):
            by_seed = [owners.get((*cell, seed), []) for seed in self.seeds]
            for seed, runs in zip(self.seeds, by_seed, strict=True):
                if len(runs) != 1:
                    raise ValueError(
                        f"record: got {len(runs)} runs of point {cell} at seed {seed}, expected 1"
                    )
            group = tuple(runs[0] for runs in by_seed)
            if group not in self._groups:
                self._groups.append(group)
            self.cells.append(self._groups.index(group))

    def point(self, rho: int, beta: int) -> Point:
        """Return what the runs of a point have in common, given the indices of rho and beta."""
        return self.points[self.cells[rho * len(self.betas) + beta]]

    def nearest(self, rho: float, beta: float) -> dict[str, int]:
        """Return the indices of the point nearest to rho (by its logarithm) and beta."""
        return {
            "rho": int(np.abs(np.log(self.rhos) - np.log(rho)).argmin()),
            "beta": int(np.abs(np.subtract(self.betas, beta)).argmin()),
        }

    @cached_property
    def points(self) -> list[Point]:
        """All points that differ."""
        return [self._summary([self.runs[index] for index in group]) for group in self._groups]

    @cached_property
    def vanilla(self) -> Point:
        """The runs without rotations."""
        return self._summary(self._vanilla)

    def _summary(self, runs: Sequence[Run]) -> Point:
        curves, texts = {}, {}
        for name, (_, digits, curve) in CURVES.items():
            values = np.array([curve(run) for run in runs])
            curves[name] = (values.mean(axis=0), values.std(axis=0, ddof=1))
            texts[f"{name}_end"] = written(curves[name][0][-1], digits)
        pairs = [*self._vanilla, *({**run, "method": "mt+rollingq"} for run in runs)]
        for name, digits, value in self.numbers():
            values = np.array([value(run) for run in runs])
            texts[name] = with_error(values.mean(), values.std(ddof=1), digits)
            difference = paired_difference(pairs, "mt+rollingq", "mt", value)
            texts[f"{name}_difference"] = with_error(*difference, digits, sign=True)
            texts[f"mean_{name}"] = written(values.mean(), digits)
        texts["mean_clean"] = texts["mean_accuracy_0"]
        texts["mean_noisy"] = texts[f"mean_accuracy_{len(self.levels) - 1}"]
        turned = [[epoch in run["rotations"] for run in runs] for epoch in range(self.epochs)]
        return Point(curves, np.mean(turned, axis=1), texts)

    def numbers(self) -> list[tuple[str, int, Callable[[Run], float]]]:
        """Return name and digits of each number at the end of a run, and how to read it."""
        return [
            *(
                (f"accuracy_{k}", 1, lambda run, k=k: 100 * run["accuracy"][k])
                for k in range(len(self.levels))
            ),
            ("share_normal", 2, lambda run: run["share_normal"]),
            ("share_noisy", 2, lambda run: run["share_noisy"]),
            ("pearson", 2, lambda run: run["pearson"]),
            ("rotations", 1, lambda run: len(run["rotations"])),
        ]
