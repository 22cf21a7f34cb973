"""Figures of the geometry: alpha, the anchor, and the turn, in the plane of query and keys."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rollingq_core.plots.style import COLOURS, INK, figure
from rollingq_core.rotation import anchor_weight


def alpha_curves(rhos: Sequence[float], title: str) -> Figure:
    """Draw the anchor's audio weight over AIR, Eq. 11, one line a rho."""
    with figure(height=2.9) as (made, axis):
        air = np.linspace(-2, 2, 201)
        for rho, style in zip(rhos, ("-", "--", "-.", ":"), strict=False):
            alpha = [anchor_weight(float(value), rho) for value in air]
            axis.plot(air, alpha, style, color=COLOURS["anchor"], label=f"ρ = {rho:g}")
        axis.axvline(0, color=COLOURS["noise"], linewidth=0.8)
        axis.axhline(0.5, color=COLOURS["noise"], linewidth=0.8)
        axis.set(xlabel="AIR", ylabel="weight α of the audio key", title=title)
        axis.legend(loc="upper right")
        axis.annotate("query leans\non audio →", (1.98, 0.54), ha="right", color=COLOURS["audio"])
        axis.annotate("query leans\n← on vision", (-1.98, 0.46), va="top", color=COLOURS["visual"])
    return made


def plane_of_turn(panels: Mapping[str, Mapping[str, Tensor]], title: str) -> Figure:
    """Draw arrows in a plane: keys, query, anchor.

    Parameters
    ----------
    panels
        By panel title: vectors ``[2]`` by name (``audio``, ``visual``, ``query``, ``anchor``, and
        ``unscaled`` for Eq. 10 before rescaling).
    title
        The finding.
    """
    names = {"audio": "audio key", "visual": "visual key", "unscaled": "Eq. 10 as printed"}
    with figure(1, len(panels), 3.4, squeeze=False) as (made, axes):
        for axis, (panel, vectors) in zip(axes[0], panels.items(), strict=True):
            reach = 1.3 * max(float(v.norm()) for v in vectors.values())
            for name, vector in vectors.items():
                _arrow(axis, vector, name)
            axis.plot([], [], alpha=0, label=" ")  # keeps the legend's height equal in all panels
            circle = float(vectors["query"].norm())
            angles = np.linspace(0, 2 * np.pi, 181)
            axis.plot(
                circle * np.cos(angles),
                circle * np.sin(angles),
                color=COLOURS["noise"],
                linewidth=0.8,
                linestyle=":",
            )
            axis.set(
                title=panel,
                xlim=(-reach, reach),
                ylim=(-reach, reach),
                aspect="equal",
                xlabel="first axis of the plane",
            )
            for name, vector in vectors.items():
                inner = name == "unscaled"
                tip = 0.8 * vector if inner else vector * (1 + 0.06 * reach / vector.norm())
                axis.annotate(
                    "  " * inner + names.get(name, name),
                    tip.tolist(),
                    ha="left" if inner or tip[0] >= 0 else "right",
                    va="bottom" if tip[1] >= 0 else "top",
                    color=COLOURS.get(name, INK),
                    fontsize=9,
                    annotation_clip=False,
                )
        axes[0, 0].set_ylabel("second axis of the plane")
        made.suptitle(title, fontsize=11)
    return made


def _arrow(axis: Axes, vector: Tensor, name: str) -> None:
    axis.annotate(
        "",
        tuple(vector.tolist()),
        (0, 0),
        arrowprops={
            "arrowstyle": "-|>",
            "color": COLOURS.get(name, INK),
            "linewidth": 2.2 if name in ("query", "anchor") else 1.5,
            "linestyle": "--" if name == "unscaled" else "-",
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )
