"""Figures of fusion that is deeper, or begins earlier, than one layer after the encoders."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from rollingq_core.plots.style import COLOURS, INK, METHODS, figure, legend_below, looks_of
from rollingq_core.statistics import of_method

Record = Mapping[str, Any]
# Epochs from one marker of a line to its next.
MARKED = 6


def stage_curves(history: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw a run that comes into its blocks one after the other: lean, shares and accuracy.

    A solid line marks where the next block came into use, dotted ones mark rotations. Epochs count
    from the start of fusion.

    Parameters
    ----------
    history
        What :func:`rollingq_core.training.fit` returns of a run with
        :class:`rollingq_core.balancing.Progressive`; epochs of pretraining are left out.
    title
        The finding.
    """
    fused = [record for record in history if record["stage"] == "fusion"]
    epochs = np.arange(1, len(fused) + 1)
    blocks = [record["block"] for record in fused]
    with figure(3, 1, 5.4, sharex=True) as (made, axes):
        imbalance, share, accuracy = axes
        imbalance.plot(epochs, [r["air"] for r in fused], color=COLOURS["query"], marker=".")
        imbalance.axhline(0, color=COLOURS["noise"], linewidth=0.8)
        for name, look in looks_of(fused[0]["share"]).items():
            curve = [r["share"][name] for r in fused]
            share.plot(epochs, curve, look["linestyle"], color=look["color"], label=name)
        percent = [100 * r["validation_accuracy"] for r in fused]
        accuracy.plot(epochs, percent, color=INK, marker=".")
        share.set_ylim(0, 1)
        share.legend(loc="upper right", ncols=3)
        labels = ("AIR", "attention share", "validation, %")
        for axis, label in zip(axes, labels, strict=True):
            axis.set_ylabel(label)
            for epoch, record in zip(epochs, fused, strict=True):
                if record["rotation"]:
                    axis.axvline(epoch, color=COLOURS["anchor"], linestyle=":", linewidth=1.2)
            for place in np.flatnonzero(np.diff(blocks)):
                axis.axvline(epochs[place] + 0.5, color=INK, linewidth=1.2)
        axes[-1].set_xlabel("epoch of fusion")
        axes[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
        made.suptitle(title, fontsize=11)
    return made


def deviation_angles(angles: Mapping[str, Tensor], title: str) -> Figure:
    """Draw how far rotations turn what is a query's own: its difference from the mean query.

    Parameters
    ----------
    angles
        By rotation: angles in degrees between that difference before and after, ``[N]``.
    title
        The finding.
    """
    looks = (("-", "////"), ("--", ""), (":", "...."))
    shades = (COLOURS["query"], COLOURS["noise"], INK)
    edges = np.arange(0, 185, 5)
    with figure(height=2.9) as (made, axis):
        for (name, values), (line, hatch), shade in zip(
            angles.items(), looks, shades, strict=False
        ):
            counts, _ = np.histogram(np.asarray(values), bins=edges)
            axis.stairs(
                100 * counts / counts.sum(),
                edges,
                fill=True,
                facecolor="none",
                edgecolor=shade,
                linestyle=line,
                linewidth=1.6,
                hatch=hatch,
                label=name,
            )
        axis.set(
            xlabel="angle between the deviation before and after, degrees",
            ylabel="queries, %",
            title=title,
            xlim=(0, 180),
        )
        axis.set_xticks(range(0, 181, 30))
        axis.legend(loc="upper right")
    return made


def gains_by_set(
    differences: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    levels: Sequence[float],
    title: str,
) -> Figure:
    """Draw paired differences with their 95 % intervals, a row a pair and a panel a set.

    Parameters
    ----------
    differences
        By set, then by the name of the pair: mean and half width in points, one for each level.
    levels
        At most three noise levels, the first without noise.
    title
        The finding.
    """
    pairs = list(next(iter(differences.values())))
    places = -np.arange(len(pairs))
    looks = (("o", INK, INK), ("s", COLOURS["noise"], "none"), ("D", COLOURS["noise"], "none"))
    with figure(1, len(differences), 0.4 * len(pairs) + 1.4, sharey=True, squeeze=False) as (
        made,
        axes,
    ):
        for axis, (name, by_pair) in zip(axes[0], differences.items(), strict=True):
            axis.axvline(0, color=COLOURS["noise"], linewidth=0.8)
            for row, (level, (marker, shade, face)) in enumerate(zip(levels, looks, strict=False)):
                means, halves = np.array([by_pair[pair][row] for pair in pairs]).T
                axis.errorbar(
                    means,
                    places - 0.25 * (row - (len(levels) - 1) / 2),
                    xerr=halves,
                    fmt=marker,
                    color=shade,
                    markerfacecolor=face,
                    capsize=2,
                    label=f"noise {level:g}" if level else "clean",
                )
            axis.set_title(name, loc="center", fontsize=9.5)
            axis.set_xlabel("points")
        axes[0, 0].set_ylabel("difference")
        axes[0, 0].set_yticks(places, pairs)
        legend_below(made, axes[0, 0], len(levels))
        made.suptitle(title, fontsize=11)
    return made


def share_by_block(
    record: Record, methods: Sequence[str], title: str, modality: str = "audio"
) -> Figure:
    """Draw a modality's attention share over training (paper: Fig. 8), a panel for each place.

    Lines are means over seeds, bands one standard deviation.

    Parameters
    ----------
    record
        One of Table 11: each run has its ``variant``, the block where the streams meet.
    methods
        Which to draw.
    title
        The finding.
    modality
        Whose share is drawn.
    """
    variants = _variants(record)
    with figure(**_grid(variants)) as (made, axes):
        for axis, variant in zip(axes.flat, variants, strict=True):
            for method in methods:
                runs = of_method(_of_variant(record, variant), method)
                curves = np.array(
                    [[epoch[modality] for epoch in run["history"]["share"]] for run in runs]
                )
                _band(axis, curves, **METHODS[method])
            axis.axhline(0.5, color=COLOURS["noise"], linewidth=0.8)
            axis.set_ylim(0, 1)
        _name(axes, variants, f"attention share of {modality}")
        legend_below(made, axes[0, 0], len(methods))
        made.suptitle(title, fontsize=11)
    return made


def gradients_by_block(record: Record, methods: Sequence[str], title: str) -> Figure:
    """Draw the encoders' gradient norms over training (paper: Fig. 9), a panel for each place.

    Lines are geometric means over seeds, bands one geometric standard deviation. Epochs of
    pretraining are left out.

    Parameters
    ----------
    record, methods, title
        As in :func:`share_by_block`; the modalities are those of the gradient norms.
    """
    variants = _variants(record)
    with figure(**_grid(variants), subplot_kw={"yscale": "log"}) as (made, axes):
        for axis, variant in zip(axes.flat, variants, strict=True):
            for method in methods:
                histories = [r["history"] for r in of_method(_of_variant(record, variant), method)]
                norms = [h["gradient_norm"][-len(h["share"]) :] for h in histories]
                for name, look in looks_of(norms[0][0]).items():
                    curves = np.array([[epoch[name] for epoch in run] for run in norms])
                    _band(
                        axis,
                        curves,
                        geometric=True,
                        color=look["color"],
                        marker=look["marker"],
                        linestyle=METHODS[method]["linestyle"],
                        label=f"{name}, {METHODS[method]['label']}",
                    )
        _name(axes, variants, "gradient norm")
        legend_below(made, axes[0, 0], 2)
        made.suptitle(title, fontsize=11)
    return made


def _variants(record: Record) -> list[str]:
    return list(dict.fromkeys(run["variant"] for run in record["runs"]))


def _of_variant(record: Record, variant: str) -> list[Mapping[str, Any]]:
    return [run for run in record["runs"] if run["variant"] == variant]


def _grid(variants: Sequence[str]) -> dict[str, Any]:
    """Return the options of a figure with a panel for each, two in a row where that comes out."""
    columns = 1 if len(variants) % 2 else 2
    rows = len(variants) // columns
    size = {"rows": rows, "columns": columns, "height": 0.8 + 2.1 * rows}
    return size | {"sharex": True, "sharey": True, "squeeze": False}


def _band(axis: Axes, curves: np.ndarray, *, geometric: bool = False, **look: Any) -> None:
    """Draw the mean of curves ``[seeds, epochs]``, and a standard deviation around it."""
    there, back = (np.log, np.exp) if geometric else (np.asarray, np.asarray)
    values = there(curves)
    mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
    epochs = np.arange(1, len(mean) + 1)
    axis.plot(epochs, back(mean), markersize=4, markevery=MARKED, **look)
    low, high = back(mean - spread), back(mean + spread)
    axis.fill_between(epochs, low, high, color=look["color"], alpha=0.15, lw=0)


def _name(axes: np.ndarray, variants: Sequence[str], quantity: str) -> None:
    for axis, variant in zip(axes.flat, variants, strict=True):
        axis.set_title(variant, loc="center", fontsize=9.5)
    for axis in axes[:, 0]:
        axis.set_ylabel(quantity)
    for axis in axes[-1]:
        axis.set_xlabel("epoch of fusion")
