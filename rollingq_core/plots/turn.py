"""Figures of one turn: the keys as the query sees them, and what the turn costs and leaves."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rollingq_core.models.predictions import Predictions
from rollingq_core.plots.style import COLOURS, INK, MODALITIES, figure, looks_of

# Direction of the query on the page, in degrees clockwise from the top.
QUERY_AT = 40


def keys_around_query(
    answers: Predictions,
    turn: float | None,
    title: str | None,
    every: int = 4,
    modalities: tuple[str, str] = ("audio", "visual"),
) -> Figure:
    """Draw average keys at their true angles to the query, a modality on each side of it.

    A key's distance from the middle is its norm. The arrows have one length, whatever the query's.

    Parameters
    ----------
    answers
        A model's answers.
    turn
        Angle from the query to the anchor in radians, drawn on the second modality's side; None
        for no anchor.
    title
        The finding.
    every
        Draw each ``every``-th sample.
    modalities
        The first two of the model, in its order.
    """
    assert answers.key_norms is not None  # as the model has attention
    assert answers.cosines is not None
    with figure(height=3.3) as (made, axis):
        reach = float(answers.key_norms.quantile(0.9))
        for index, (name, look) in enumerate(looks_of(modalities).items()):
            side = (1, -1)[index]
            angles = np.arccos(answers.cosines[::every, index].clamp(-1, 1).numpy())
            places = _place(side * angles, answers.key_norms[::every, index].numpy())
            axis.scatter(
                *places,
                s=14,
                alpha=0.55,
                linewidths=0,
                color=look["color"],
                marker=look["marker"],
            )
            below = (places[0].mean(), places[1].min() - 0.1 * reach)
            _label(axis, below, f"{name} keys", look["color"])
        _arrow(axis, 0.0, 0.8 * reach, COLOURS["query"])
        _label(axis, _at(0.05, 0.9 * reach), "query", COLOURS["query"])
        if turn is not None:
            path = _place(np.linspace(-0.1, 0.1 - turn, 60), np.full(60, 0.62 * reach))
            axis.plot(*path, color=COLOURS["noise"], linestyle=":", linewidth=1.6)
            _label(axis, _at(-turn / 2, 0.7 * reach), f"{np.degrees(turn):.0f}°", INK)
            _arrow(axis, -turn, 0.8 * reach, COLOURS["anchor"])
            _label(axis, _at(0.3 - turn, 0.3 * reach), "anchor", COLOURS["anchor"])
        axis.plot(0, 0, "o", color=INK, markersize=4)
        axis.set(aspect="equal", title=title)
        axis.margins(0.06)
        axis.axis("off")
    return made


def cost_of_turn(
    epochs: ArrayLike, curves: Mapping[str, ArrayLike], turned: float, title: str
) -> Figure:
    """Draw what a turn does over epochs, one panel a quantity: mean and sd over runs.

    Parameters
    ----------
    epochs
        When each value was measured, shape ``[N]``; the epoch of the turn occurs twice, before it
        and after it.
    curves
        By axis label: values of each run, shape ``[runs, N]``. A label that names a modality gives
        the curve its colour.
    turned
        Epoch of the turn.
    title
        The finding.
    """
    with figure(len(curves), 1, 2.0 * len(curves) + 0.6, sharex=True, squeeze=False) as (
        made,
        axes,
    ):
        for axis, (label, runs) in zip(axes[:, 0], curves.items(), strict=True):
            values = np.asarray(runs, dtype=float)
            mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
            named = (look["color"] for name, look in MODALITIES.items() if name in label)
            colour = next(named, INK)
            axis.plot(epochs, mean, color=colour, marker=".")
            axis.fill_between(epochs, mean - spread, mean + spread, color=colour, alpha=0.18, lw=0)
            axis.axvline(turned, color=COLOURS["query"], linestyle=":", linewidth=1.4)
            axis.set_ylabel(label)
        axes[0, 0].annotate(
            "turn", (turned, 0.04), (4, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=COLOURS["query"], fontsize=9,
        )  # fmt: skip
        axes[-1, 0].set_xlabel("epoch of fusion")
        made.suptitle(title, fontsize=11)
    return made


def _place(angles: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return page coordinates ``[2, N]`` of points at clockwise angles from the query."""
    turned = np.radians(QUERY_AT) + angles
    return np.stack([radii * np.sin(turned), radii * np.cos(turned)])


def _at(angle: float, radius: float) -> tuple[float, float]:
    return tuple(_place(np.array([angle]), np.array([radius]))[:, 0])


def _arrow(axis: Axes, angle: float, length: float, colour: str) -> None:
    style = {"arrowstyle": "-|>,head_width=0.35,head_length=0.7", "color": colour}
    lines = {"linewidth": 3, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", _at(angle, length), (0, 0), arrowprops=style | lines)
    axis.plot(*_at(angle, length))  # an annotation does not widen the axes' limits


def _label(axis: Axes, place: tuple[float, float], text: str, colour: str) -> None:
    axis.text(*place, text, ha="center", va="center", color=colour, fontweight="bold")
    axis.plot(*place)
