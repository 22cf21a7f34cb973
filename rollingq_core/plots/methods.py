"""Figures that set all methods side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rollingq_core.plots.style import METHODS, figure
from rollingq_core.statistics import mean_interval, of_method


def accuracy_by_method(
    records: Mapping[str, Mapping[str, Any]], methods: Sequence[str], title: str
) -> Figure:
    """Draw accuracy without noise and with noise alone, a row a method and a panel a record.

    Parameters
    ----------
    records
        By the panel's title: records whose runs have ``accuracy`` at rising noise levels.
    methods
        Which to draw, from above; a record may lack some.
    title
        The finding.
    """
    places = np.arange(len(methods))[::-1]
    with figure(1, len(records), 0.55 + 0.3 * len(methods), sharey=True, squeeze=False) as (
        made,
        axes,
    ):
        for axis, (name, record) in zip(axes[0], records.items(), strict=True):
            for place, method in zip(places, methods, strict=True):
                runs = of_method(record["runs"], method)
                if not runs:
                    continue
                look = {"color": METHODS[method]["color"], "marker": METHODS[method]["marker"]}
                for level, filled in ((0, look["color"]), (-1, "none")):
                    mean, half = mean_interval([100 * run["accuracy"][level] for run in runs])
                    axis.errorbar(mean, place, xerr=half, capsize=2, markerfacecolor=filled, **look)
            axis.set_title(name, loc="center", fontsize=9.5)
            axis.set_xlabel("test accuracy, %")
            axis.grid(axis="x", linewidth=0.3)
        axes[0, 0].set_ylabel("method")
        axes[0, 0].set_yticks(places, [METHODS[method]["label"] for method in methods])
        made.suptitle(title, fontsize=11)
    return made
