"""Figures that compare many settings at once: the regime map, and intervals side by side."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from rollingq_core.plots.style import COLOURS, INK, METHODS, figure, legend_below
from rollingq_core.statistics import Rows, paired_difference, signed


def of_regime(runs: Rows, max_rotations: int, **regime: float) -> list[Mapping[str, Any]]:
    """Return the runs of one regime: those with this rotation budget, and those without any."""
    return [
        run
        for run in runs
        if run["max_rotations"] in (None, max_rotations)
        and all(run[name] == value for name, value in regime.items())
    ]


def regime_differences(
    record: Mapping[str, Any], method: str, baseline: str, level: float
) -> dict[tuple[float, float, int, int], tuple[float, float]]:
    """Return paired differences of accuracy in points, with half their 95 % interval.

    Keys are ``(cls_std, visual_strength, train_samples, max_rotations)``.
    """
    percent, differences = _percent(record["levels"].index(level)), {}
    for std in record["cls_std"]:
        for strength in record["visual_strength"]:
            for samples in record["train_samples"]:
                for budget in record["budgets"]:
                    runs = of_regime(
                        record["runs"],
                        budget,
                        cls_std=std,
                        visual_strength=strength,
                        train_samples=samples,
                    )
                    key = (std, strength, samples, budget)
                    differences[key] = paired_difference(runs, method, baseline, percent)
    return differences


def _percent(place: int) -> Callable[[Mapping[str, Any]], float]:
    return lambda run: 100 * run["accuracy"][place]


def regime_map(
    record: Mapping[str, Any],
    differences: Mapping[tuple, tuple[float, float]],
    title: str,
    reach: float = 20,
) -> Figure:
    """Draw the differences of each regime as tiles; a number stands where the interval excludes 0.

    Parameters
    ----------
    record
        A record of the recipe ``regimes``; it names the axes.
    differences
        What :func:`regime_differences` returned.
    title
        The finding.
    reach
        Difference in points at which the colour is full.
    """
    stds, strengths = record["cls_std"], record["visual_strength"]
    sizes, budgets = record["train_samples"], record["budgets"]
    with figure(len(strengths), len(stds), 4.9, stacks=False, sharex=True, sharey=True) as (
        made,
        axes,
    ):
        for row, strength in enumerate(strengths):
            for column, std in enumerate(stds):
                axis = axes[row, column]
                cells = [[differences[std, strength, n, b] for n in sizes] for b in budgets]
                tiles = axis.imshow(
                    [[mean for mean, _ in line] for line in cells],
                    cmap="BrBG",
                    norm=TwoSlopeNorm(0, -reach, reach),
                    aspect="auto",
                    origin="lower",
                )
                for y, line in enumerate(cells):
                    for x, (mean, half) in enumerate(line):
                        clear = abs(mean) > half
                        axis.text(
                            x,
                            y,
                            signed(mean, 1) if clear else "·",
                            ha="center",
                            va="center",
                            fontsize=8.5,
                            # On the tile, whose colour the page's does not change.
                            color="#fafafa" if abs(mean) > 0.7 * reach else "#1a1a1a",
                        )
                axis.set_xticks(range(len(sizes)), [f"{n}" for n in sizes])
                axis.set_yticks(range(len(budgets)), [f"{b}" for b in budgets])
                if row == 0:
                    axis.set_title(f"class token sd {std:g}", loc="center", fontsize=9.5)
                if column == 0:
                    axis.set_ylabel(f"visual strength {strength:g}\nrotations at most", fontsize=9)
                if row == len(strengths) - 1:
                    axis.set_xlabel("training pairs")
        made.colorbar(tiles, ax=axes, shrink=0.6, label="difference, points", extend="both")
        made.suptitle(title, fontsize=11)
    return made


def interval_columns(
    records: Mapping[str, Mapping[str, Any]],
    method: str,
    baselines: Sequence[str],
    levels: Sequence[float],
    title: str,
) -> Figure:
    """Draw paired differences with their 95 % intervals: a column a noise level, a row a record.

    Parameters
    ----------
    records
        Comparison records by the name that stands at their row.
    method, baselines
        Whose accuracy is compared, and with whose.
    levels
        Noise levels to show.
    title
        The finding.
    """
    with figure(1, len(levels), 0.62 * len(records) + 1.3, sharey=True, sharex=True) as (
        made,
        axes,
    ):
        places = -np.arange(len(records))
        for axis, level in zip(axes, levels, strict=True):
            axis.axvline(0, color=COLOURS["noise"], linewidth=0.8)
            for shift, baseline in enumerate(baselines):
                pairs = []
                for record in records.values():
                    percent = _percent(record["levels"].index(level))
                    pairs.append(paired_difference(record["runs"], method, baseline, percent))
                means, halves = np.array(pairs).T
                style = METHODS[baseline]
                axis.errorbar(
                    means,
                    places - 0.22 * (shift - (len(baselines) - 1) / 2),
                    xerr=halves,
                    fmt=style["marker"],
                    color=style["color"],
                    markerfacecolor="none" if baseline == "mt" else style["color"],
                    label=f"− {style['label']}",
                    capsize=2,
                    markersize=4.5,
                )
            axis.set_title(f"noise {level:g}", loc="center", fontsize=9.5)
            axis.set_xlabel("points")
        axes[0].set_yticks(places, list(records), color=INK)
        axes[0].set_ylabel("data, setting")
        legend_below(made, axes[0], len(baselines))
        made.suptitle(title, fontsize=11)
    return made
