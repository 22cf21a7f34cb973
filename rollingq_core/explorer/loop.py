"""The loop explorer: a model of the self-reinforcing cycle, with sliders to start and to stop it.

On a page without Python its script solves the equations.
"""

import math
from typing import Any, ClassVar

import numpy as np

from rollingq_core._checks import require_number
from rollingq_core.explorer._equations import EquationExplorer
from rollingq_core.explorer._loop_drawing import HEIGHT, REACH, TIME_HEIGHT, WIDTH, loop_drawing
from rollingq_core.explorer._page import readout
from rollingq_core.theory.loop import STEP, FeedbackLoop

# Name: lowest, highest, step, title.
SLIDERS = {
    "gain": (0.2, 2.5, 0.1, "gain of the loop, G"),
    "head_start": (-0.4, 0.4, 0.02, "head start of audio, b"),
    "share": (0.1, 0.9, 0.05, "audio’s share at the start"),
    "turn": (-2, 1, 0.1, "a turn of the query multiplies its lean by"),
}
# Name: digits after the point, whether a plus sign is written.
DIGITS = {
    "gain": (1, False),
    "head_start": (2, True),
    "share": (2, False),
    "turn": (1, False),
    "limit": (2, False),
    "points": (0, False),
    "before": (2, False),
    "gap_before": (2, True),
    "turned": (2, False),
    "after": (2, False),
    "gap_after": (2, True),
}
TEMPLATES = {
    "readout": "Fixed points: {points} (three while the head start is nearer to 0 than {limit}). "
    "Audio’s share goes from {share} to {before}; the turn makes it {turned}, and it ends at "
    "{after}.",
    "label": "Above, the plane of audio’s share and the quality gap, with {points} fixed points, "
    "and a path that starts at share {share} and gap 0, reaches share {before} and gap "
    "{gap_before}, jumps to share {turned} at the turn, and ends at share {after} and gap "
    "{gap_after}. Below, the share over time.",
}
# Units of time before the turn, and after it.
DURATION = 30
# Every so many steps of the solver make a point of the drawing.
STRIDE = 2


class LoopExplorer(EquationExplorer):
    """The phase plane of :class:`rollingq_core.theory.FeedbackLoop`, with sliders.

    A path starts with equally good encoders and a share by chance, is left alone for a while, and
    then the query is turned: its lean is multiplied by a number, the encoders stay. As the last
    value of a notebook cell it shows itself.

    Parameters
    ----------
    gain, head_start, share, turn
        Where the sliders stand at first: the loop's gain and head start, audio's share at the
        start, and the factor of the lean (1: no turn; 0: to the middle; below: past it).
    pace
        How fast the encoders change relative to the query.

    Raises
    ------
    ValueError
        A value outside its slider's range, or a pace not above 0 or above 5.
    """

    title: ClassVar[str] = "Loop explorer"
    script: ClassVar[str] = "loop.js"
    templates: ClassVar[dict[str, str]] = TEMPLATES
    sliders: ClassVar[dict[str, tuple]] = SLIDERS
    digits: ClassVar[dict[str, tuple[int, bool]]] = DIGITS

    def __init__(
        self,
        gain: float = 1.6,
        head_start: float = 0.04,
        share: float = 0.5,
        turn: float = -1,
        *,
        pace: float = 1,
    ) -> None:
        super().__init__(gain=gain, head_start=head_start, share=share, turn=turn)
        self.pace = require_number("pace", pace, above=0, at_most=5)

    def measure(  # type: ignore[override]  # its arguments are its sliders
        self, gain: float, head_start: float, share: float, turn: float
    ) -> dict:
        """Return what the explorer shows, by name.

        ``limit`` is the largest head start that leaves two ends; ``points`` counts fixed points,
        and ``fixed`` holds their shares and gaps; ``before`` and ``after`` are audio's share just
        before the turn and at the end, ``turned`` the one just after the turn; ``path_before``,
        ``path_after`` and ``boundary`` hold states as rows of share and gap.
        """
        loop = FeedbackLoop(gain, head_start, self.pace)
        fixed = loop.fixed_points()
        before = loop.run(math.atanh(2 * share - 1), 0, DURATION)
        after = loop.run(turn * before[-1, 0], before[-1, 1], DURATION)
        boundary = loop.boundary(REACH)
        paths = {
            "fixed": np.array([point[:2] for point in fixed]),
            "path_before": before[::STRIDE],
            "path_after": after[::STRIDE],
            "boundary": np.empty((0, 2)) if boundary is None else boundary,
        }
        paths = {name: _shares(states) for name, states in paths.items()}
        return {
            "limit": loop.largest_head_start,
            "points": len(fixed),
            "before": paths["path_before"][-1, 0],
            "gap_before": paths["path_before"][-1, 1],
            "turned": paths["path_after"][0, 0],
            "after": paths["path_after"][-1, 0],
            "gap_after": paths["path_after"][-1, 1],
            **paths,
        }

    def _picture(self, settings: dict[str, float]) -> str:
        said = self._said(settings)
        return loop_drawing(self.measure(**settings), settings, said["label"]) + readout(said)

    def _data(self) -> dict[str, Any]:
        return {
            "pace": self.pace,
            "step": STEP,
            "stride": STRIDE,
            "duration": DURATION,
            "digits": DIGITS,
            "size": [WIDTH, HEIGHT, TIME_HEIGHT],
            "reach": REACH,
        }

    def _caption(self) -> str:
        return (
            "Above: where the gap rests (solid) and where the lean rests (dashed); they cross at "
            "the fixed points (full: stable, ring: not), and a dotted line parts their basins, "
            "orange where audio wins. Pink: a path from the ring-shaped start, with its jump "
            "(dashes) at the turn. Below: audio’s share over time. "
            f"Pace {self.pace:g}, {DURATION} units of time before the turn and after it."
        )


def _shares(states: np.ndarray) -> np.ndarray:
    """Return rows of audio's share and gap for rows of lean and gap."""
    return np.stack([(1 + np.tanh(states[:, 0])) / 2, states[:, 1]], axis=1)
