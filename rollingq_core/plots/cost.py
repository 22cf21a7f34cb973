"""Figures of what models cost (Table 4)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from rollingq_core.plots.style import COLOURS, INK, METHODS, figure, legend_below

# By kind of count: its marker and colour.
LOOKS = {"paper": ("x", COLOURS["noise"]), "alike": ("o", INK), "true": ("D", COLOURS["query"])}


def counted_dots(counts: Mapping[str, Mapping[str, Mapping[str, float]]], title: str) -> Figure:
    """Draw how much each method costs by different counts, a panel a quantity.

    Parameters
    ----------
    counts
        By axis label, then method: numbers by ``"paper"`` (quoted), ``"alike"`` (counted as the
        paper did) and ``"true"``.
    title
        The finding.
    """
    methods = [*next(iter(counts.values()))]
    places = np.arange(len(methods))[::-1]
    size = (1, len(counts), 1.2 + 0.4 * len(methods))
    with figure(*size, sharey=True, squeeze=False) as (made, axes):
        for axis, (label, own) in zip(axes[0], counts.items(), strict=True):
            for kind, (marker, colour) in LOOKS.items():
                axis.plot(
                    [own[method][kind] for method in methods],
                    places - 0.15 * (kind == "true"),
                    linestyle="none",
                    marker=marker,
                    color=colour,
                    markerfacecolor="none" if kind == "alike" else colour,
                    markersize=7 if kind == "alike" else 5,
                    label={"alike": "counted alike", "true": "all there is"}.get(kind, kind),
                )
            axis.set_xlabel(label)
            axis.set_xlim(left=0)
            axis.grid(axis="x", linewidth=0.3)
        axes[0, 0].set_yticks(places, [METHODS[method]["label"] for method in methods])
        axes[0, 0].set_ylabel("method")
        legend_below(made, axes[0, 0], 3)
        made.suptitle(title, fontsize=11)
    return made
