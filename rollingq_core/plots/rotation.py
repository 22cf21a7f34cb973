"""Figures of what a rotation leaves open: the anchor's length, the complement, reflections."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from rollingq_core.plots.style import COLOURS, INK, figure

_STYLES = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "D"))


def anchor_lengths(angles: Tensor, lengths: Mapping[str, Tensor], title: str) -> Figure:
    """Draw the length of Eq. 10's anchor, in query lengths, over the angle between the keys.

    Parameters
    ----------
    angles
        Angles between the two expected keys in degrees, shape ``[N]``.
    lengths
        By label: lengths as a fraction of the query's, shape ``[N]``, at most four lines.
    title
        The finding.
    """
    with figure(height=2.9) as (made, axis):
        for (label, values), (line, marker) in zip(lengths.items(), _STYLES, strict=False):
            axis.plot(
                angles,
                values,
                line,
                color=COLOURS["anchor"],
                marker=marker,
                markevery=max(1, len(angles) // 6),
                label=label,
            )
        axis.axhline(1, color=COLOURS["noise"], linewidth=0.8)
        axis.annotate("length of the query", (178, 1.02), ha="right", color=INK, fontsize=9)
        axis.set(
            xlabel="angle between the expected keys, degrees",
            ylabel="anchor's length / query's",
            title=title,
            xlim=(0, 180),
            ylim=(0, 1.12),
        )
        axis.set_xticks(range(0, 181, 30))
        axis.legend(loc="lower left")
    return made


def turn_angles(angles: Mapping[str, Tensor], title: str) -> Figure:
    """Draw histograms of the angles by which rotations turn: those of their eigenvalues.

    Parameters
    ----------
    angles
        By panel title: the ``d`` angles of a ``d × d`` rotation in degrees, from 0 to 180.
    title
        The finding.
    """
    with figure(1, len(angles), 2.9, sharey=True, squeeze=False) as (made, axes):
        for axis, (panel, values) in zip(axes[0], angles.items(), strict=True):
            counts, edges = np.histogram(np.asarray(values), bins=18, range=(0, 180))
            axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS["query"])
            for count, left in zip(counts, edges, strict=False):
                if count:
                    axis.annotate(
                        str(count),
                        (left + 5, count),
                        (0, 1),
                        textcoords="offset points",
                        ha="center",
                        fontsize=7.5,
                    )
            axis.set(title=panel, xlabel="angle of the turn, degrees", xlim=(-4, 184))
            axis.set_xticks(range(0, 181, 45))
        axes[0, 0].set_ylabel("eigenvalues")
        made.suptitle(title, fontsize=11)
    return made


def partial_products(products: Sequence[Tensor], smallest: float, title: str) -> Figure:
    """Draw how a determinant is multiplied up from its pivots, on a logarithmic scale.

    Parameters
    ----------
    products
        One line a matrix: log10 of the absolute product of the first 1, 2, ..., d pivots, ``[d]``.
    smallest
        The smallest positive number of the format in which the product would be taken.
    title
        The finding.
    """
    with figure(height=2.9) as (made, axis):
        for line in products:
            axis.plot(np.arange(1, len(line) + 1), line, color=COLOURS["query"], linewidth=1)
        axis.axhline(np.log10(smallest), color=INK, linestyle="--", linewidth=1.2)
        axis.annotate(
            "smallest positive float32",
            (0.5, np.log10(smallest)),
            (0, 4),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
        axis.set(
            xlabel="pivots multiplied so far",
            ylabel="log10 |product|",
            title=title,
        )
    return made
