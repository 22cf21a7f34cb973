"""A model of the self-reinforcing cycle in two variables: the query's lean, the encoders' gap."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from rollingq_core._checks import require_number

STEP = 0.05


class FixedPoint(NamedTuple):
    """A state that does not move: its ``lean`` and ``gap``, and whether small pushes die out."""

    lean: float
    gap: float
    stable: bool


@dataclass(frozen=True)
class FeedbackLoop:
    r"""Two variables that push each other.

    .. math:: \dot a = G\, \Delta - a, \qquad
        \dot \Delta = r\, (\tanh a + b - \Delta)

    The lean a is half the log odds of audio's attention share, so that the shares differ by tanh a.
    The gap Δ is the quality of audio's features minus that of vision's. The query follows the gap,
    each encoder's quality follows the gradient, hence the share, that it gets. Time is counted in
    units in which the query forgets.

    Parameters
    ----------
    gain
        G, what the query makes of a gap; at least 0.
    head_start
        b, the gap that equal shares would leave: how much easier audio is.
    pace
        r, how fast encoders change relative to the query; above 0.

    Raises
    ------
    ValueError
        A value out of range.
    """

    gain: float
    head_start: float = 0.0
    pace: float = 1.0

    def __post_init__(self) -> None:
        require_number("gain", self.gain, at_least=0)
        require_number("head_start", self.head_start)
        require_number("pace", self.pace, above=0)

    def velocity(self, state: np.ndarray) -> np.ndarray:
        """Return the rates of change of states ``[..., 2]``, each a lean and a gap."""
        lean, gap = np.moveaxis(np.asarray(state), -1, 0)
        rates = self.gain * gap - lean, self.pace * (np.tanh(lean) + self.head_start - gap)
        return np.stack(rates, axis=-1)

    @property
    def largest_head_start(self) -> float:
        """The head start below which there are two ends to choose from; 0 where the gain is low.

        There the curve of fixed points, ``a = G (tanh a + b)``, touches itself: its slope is 1.
        """
        if self.gain <= 1:
            return 0.0
        return math.sqrt(1 - 1 / self.gain) - math.acosh(math.sqrt(self.gain)) / self.gain

    def fixed_points(self) -> list[FixedPoint]:
        """Return the fixed points, lean ascending: one, or a saddle between two stable ones."""
        bound = self.gain * (1 + abs(self.head_start)) + 1
        edges = [-bound, bound]
        if abs(self.head_start) < self.largest_head_start:
            fold = math.acosh(math.sqrt(self.gain))
            edges = [-bound, -fold, fold, bound]
        leans = [
            brentq(self._excess, low, high, xtol=1e-13, rtol=1e-13) for low, high in pairwise(edges)
        ]
        return [
            FixedPoint(lean, math.tanh(lean) + self.head_start, len(leans) == 1 or place != 1)
            for place, lean in enumerate(leans)
        ]

    def _excess(self, lean: float) -> float:
        return self.gain * (math.tanh(lean) + self.head_start) - lean

    def run(self, lean: float, gap: float, duration: float) -> np.ndarray:
        """Return the states ``[steps + 1, 2]`` from a start, :data:`STEP` apart (Runge-Kutta).

        A negative ``duration`` runs backward.
        """
        step = math.copysign(STEP, duration)
        states = [np.array([lean, gap], dtype=float)]
        for _ in range(round(abs(duration) / STEP)):
            now = states[-1]
            first = self.velocity(now)
            second = self.velocity(now + step / 2 * first)
            third = self.velocity(now + step / 2 * second)
            fourth = self.velocity(now + step * third)
            states.append(now + step / 6 * (first + 2 * second + 2 * third + fourth))
        return np.array(states)

    def boundary(self, reach: float = 2.0) -> np.ndarray | None:
        """Return the line between the two basins as states ``[N, 2]``, gap ascending, or None.

        It is the set of states that end on the saddle, followed backward from there until the gap
        is ``reach`` away from 0.
        """
        points = self.fixed_points()
        if len(points) == 1:
            return None
        lean, gap, _ = points[1]
        linear = [[-1, self.gain], [self.pace / math.cosh(lean) ** 2, -self.pace]]
        values, vectors = np.linalg.eig(linear)
        inward = 1e-4 * vectors[:, values.argmin()]
        inward *= np.sign(inward[1])
        arms = []
        for sign in (-1, 1):
            path = self.run(lean + sign * inward[0], gap + sign * inward[1], -30 / (1 + self.pace))
            outside = np.flatnonzero(np.abs(path[:, 1]) > reach)
            arms.append(path[: outside[0] + 1] if len(outside) else path)
        return np.concatenate([arms[0][::-1], [[lean, gap]], arms[1]])
