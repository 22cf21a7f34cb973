"""Figures of a fusion that sees part of its input, or attends to averages (Tables 8 and 9)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rollingq_core.plots.style import COLOURS, INK, METHODS, figure, legend_below, looks_of
from rollingq_core.statistics import mean_interval, of_method

Records = Mapping[str, Mapping[str, Any]]


def masked_dots(records: Records, methods: Sequence[str], title: str) -> Figure:
    """Draw a fusion's accuracy on all modalities and on each alone, a row a method (Table 8).

    Parameters
    ----------
    records
        By panel title: records whose runs have ``accuracy`` (a number, or a list by noise level)
        and ``alone`` by modality.
    methods
        Which to draw, from above.
    title
        The finding.
    """
    places = np.arange(len(methods))[::-1]
    size = (1, len(records), 0.9 + 0.34 * len(methods))
    with figure(*size, sharey=True, squeeze=False) as (made, axes):
        for axis, (name, record) in zip(axes[0], records.items(), strict=True):
            modalities = [*record["runs"][0]["alone"]]
            for place, method in zip(places, methods, strict=True):
                runs = of_method(record["runs"], method)
                whole = mean_interval([100 * _clean(run) for run in runs])
                axis.errorbar(
                    whole[0], place + 0.2, xerr=whole[1], fmt="D", color=INK,
                    markerfacecolor="none", capsize=2, markersize=4.5,
                    label="all" if place == 0 else None,
                )  # fmt: skip
                for shift, (modality, look) in enumerate(looks_of(modalities).items()):
                    mean, half = mean_interval([100 * run["alone"][modality] for run in runs])
                    axis.errorbar(
                        mean, place - 0.2 * shift, xerr=half, linestyle="none",
                        marker=look["marker"], color=look["color"], capsize=2, markersize=4.5,
                        label=f"{modality} alone" if place == 0 else None,
                    )  # fmt: skip
            axis.set_title(name, loc="center", fontsize=9.5)
            axis.set_xlabel("accuracy, %")
            axis.grid(axis="x", linewidth=0.3)
        axes[0, 0].set_yticks(places, [METHODS[method]["label"] for method in methods])
        axes[0, 0].set_ylabel("method")
        most = max(axes[0], key=lambda axis: len(axis.get_legend_handles_labels()[1]))
        legend_below(made, most, 4)
        made.suptitle(title, fontsize=11)
    return made


def _clean(run: Mapping[str, Any]) -> float:
    accuracy = run["accuracy"]
    return accuracy[0] if isinstance(accuracy, list) else accuracy


def averaged_dots(records: Records, methods: Sequence[str], title: str) -> Figure:
    """Draw how many points of accuracy each of QUAG's averages costs, a panel a record (Table 9).

    Parameters
    ----------
    records
        Records of ``table9`` by panel title.
    methods
        Which to draw.
    title
        The finding.
    """
    names = _operations(next(iter(records.values()))["runs"][0])
    size = (1, len(records), 1.1 + 0.5 * len(names))
    with figure(*size, squeeze=False) as (made, axes):
        for axis, (name, record) in zip(axes[0], records.items(), strict=True):
            operations = _operations(record["runs"][0])
            axis.axvline(0, color=COLOURS["noise"], linewidth=0.8)
            for shift, method in enumerate(methods):
                runs, look = of_method(record["runs"], method), METHODS[method]
                for place, operation in enumerate(operations):
                    costs = [100 * (_averaged(run, operation) - run["accuracy"]) for run in runs]
                    mean, half = mean_interval(costs)
                    axis.errorbar(
                        mean, -place - 0.15 * (shift - (len(methods) - 1) / 2), xerr=half,
                        linestyle="none", marker=look["marker"], color=look["color"],
                        capsize=2, markersize=6,
                        label=look["label"] if place == 0 else None,
                    )  # fmt: skip
            axis.set_yticks(-np.arange(len(operations)), operations)
            axis.set_title(name, loc="center", fontsize=9.5)
            axis.set_xlabel("points")
        axes[0, 0].set_ylabel("averaged")
        legend_below(made, axes[0, 0], 3)
        made.suptitle(title, fontsize=11)
    return made


def _operations(run: Mapping[str, Any]) -> list[str]:
    return ["unimodal", "crossmodal", *(f"over {name}" for name in run["average"])]


def _averaged(run: Mapping[str, Any], operation: str) -> float:
    if operation.startswith("over "):
        return run["average"][operation.removeprefix("over ")]
    return run[operation]
