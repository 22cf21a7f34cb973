"""Figures of what a turn's gain comes from."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rollingq_core.plots.style import COLOURS, INK, METHODS, figure, legend_below
from rollingq_core.statistics import mean_interval, of_method

Value = Callable[[Mapping[str, Any]], float]


def differences_by_method(
    differences: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    levels: Sequence[float],
    title: str,
) -> Figure:
    """Draw paired differences from one baseline, a panel a record and a row a method.

    Parameters
    ----------
    differences
        By panel title, then method: mean and half width in points at each of the levels.
    levels
        Noise levels; at most three.
    title
        The finding.
    """
    methods = [*next(iter(differences.values()))]
    places = np.arange(len(methods))[::-1]
    looks = (("o", "none"), ("s", COLOURS["query"]), ("D", INK))
    size = (1, len(differences), 1.2 + 0.36 * len(methods))
    with figure(*size, sharey=True, squeeze=False) as (made, axes):
        for axis, (name, own) in zip(axes[0], differences.items(), strict=True):
            axis.axvline(0, color=COLOURS["noise"], linewidth=0.8)
            for index, (level, (marker, face)) in enumerate(zip(levels, looks, strict=False)):
                means, halves = np.array([own[method][index] for method in methods]).T
                axis.errorbar(
                    means,
                    places - 0.22 * (index - (len(levels) - 1) / 2),
                    xerr=halves,
                    fmt=marker,
                    color=INK if face in ("none", INK) else face,
                    markerfacecolor=face,
                    capsize=2,
                    markersize=4.5,
                    label=f"noise {level:g}",
                )
            axis.set_title(name, loc="center", fontsize=9.5)
            axis.set_xlabel("points")
        axes[0, 0].set_yticks(places, [METHODS[method]["label"] for method in methods])
        axes[0, 0].set_ylabel("method")
        legend_below(made, axes[0, 0], len(levels))
        made.suptitle(title, fontsize=11)
    return made


def mediation(
    runs: Sequence[Mapping[str, Any]],
    methods: Sequence[str],
    causes: Mapping[str, Value],
    effect: Value,
    title: str,
) -> Figure:
    """Draw accuracy under noise against what might explain it, a panel a cause and a dot a run.

    Parameters
    ----------
    runs
        Those of one record.
    methods
        Which to draw.
    causes
        By axis label: from a run to the number.
    effect
        From a run to its accuracy under noise in percent.
    title
        The finding.
    """
    with figure(1, len(causes), 3.6, sharey=True, squeeze=False) as (made, axes):
        for axis, (label, cause) in zip(axes[0], causes.items(), strict=True):
            for method in methods:
                own = of_method(runs, method)
                look = METHODS[method]
                axis.scatter(
                    [cause(run) for run in own],
                    [effect(run) for run in own],
                    s=22,
                    color=look["color"],
                    marker=look["marker"],
                    alpha=0.8,
                    linewidths=0.6,
                    label=look["label"],
                )
            axis.set_xlabel(label)
        axes[0, 0].set_ylabel("accuracy under noise, %")
        legend_below(made, axes[0, 0], 3)
        made.suptitle(title, fontsize=11)
    return made


def alone_over_epochs(
    runs: Sequence[Mapping[str, Any]], methods: Sequence[str], modality: str, title: str
) -> Figure:
    """Draw what the fusion answers from one modality alone, and attention on it, by epoch.

    Parameters
    ----------
    runs
        Runs whose ``history`` has ``alone`` and ``share`` by modality, an entry an epoch; and
        ``events``.
    methods
        Which to draw; bands are 95 % intervals over the seeds.
    modality
        The modality.
    title
        The finding.
    """
    with figure(2, 1, 4.6, sharex=True) as (made, axes):
        turns: set[int] = set()
        for method in methods:
            own, look = of_method(runs, method), METHODS[method]
            turns |= {event["epoch"] for run in own for event in run["events"]}
            for axis, name in zip(axes, ("alone", "share"), strict=True):
                curves = np.array([[e[modality] for e in run["history"][name]] for run in own])
                means, halves = np.array([mean_interval(c) for c in 100 * curves.T]).T
                epochs = np.arange(1, len(means) + 1)
                line = {"color": look["color"], "linestyle": look["linestyle"]}
                axis.plot(epochs, means, label=look["label"], **line)
                axis.fill_between(
                    epochs, means - halves, means + halves, color=look["color"], alpha=0.15,
                    linewidth=0,
                )  # fmt: skip
        for axis, label in zip(
            axes, (f"{modality} alone,\nvalidation, %", f"attention on\n{modality}, %"), strict=True
        ):
            axis.set_ylabel(label)
            for epoch in turns:
                axis.axvline(epoch + 1, color=COLOURS["anchor"], linestyle=":", linewidth=0.8)
        axes[-1].set_xlabel("epoch of fusion")
        axes[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
        legend_below(made, axes[0], len(methods))
        made.suptitle(title, fontsize=11)
    return made
