"""Turns that RollingQ's is compared with: at the same times, but not to the anchor."""

from typing import Literal, get_args

import torch
from torch import Tensor

from rollingq_core.plane import PlaneRotation, plane_rotation

Control = Literal["random_matched", "random_free", "away"]
CONTROLS: tuple[str, ...] = get_args(Control)


def control_turn(
    control: str, query: Tensor, turn: PlaneRotation, angle: float, generator: torch.Generator
) -> PlaneRotation:
    """Return the turn of the expected query that a control makes in place of RollingQ's.

    Parameters
    ----------
    control
        ``"random_matched"``: by the angle in a random plane. ``"random_free"``: to a random
        direction. ``"away"``: by the angle in the plane of query and anchor, away from the anchor.
    query
        Expected query, shape ``[d]``.
    turn
        The turn to the anchor.
    angle
        In radians; that of the RollingQ run which the control is paired with.
    generator
        Of the random directions.

    Examples
    --------
    >>> query, anchor = torch.eye(2)
    >>> turn = plane_rotation(query, anchor)
    >>> control_turn("away", query, turn, turn.angle, torch.Generator()).apply(query).round()
    tensor([ 0., -1.])
    """
    if control == "away":
        return PlaneRotation.by_angle(turn.basis[0], turn.basis[1], -angle)
    noise = torch.randn(query.shape, generator=generator, dtype=torch.float64)
    free = plane_rotation(query, noise)
    if control == "random_free":
        return free
    return PlaneRotation.by_angle(free.basis[0], free.basis[1], angle)
