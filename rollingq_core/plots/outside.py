"""Figures of confidence inside and outside of the known classes (Table 10)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rollingq_core.plots.style import COLOURS, METHODS, figure, legend_below
from rollingq_core.statistics import mean_interval, of_method

Records = Mapping[str, Mapping[str, Any]]


def separation_dots(
    records: Records, methods: Sequence[str], kinds: Sequence[str], score: str, title: str
) -> Figure:
    """Draw how well confidence tells known samples from others, a panel a record (Table 10).

    Parameters
    ----------
    records
        Records of ``table10`` by panel title.
    methods
        Which to draw.
    kinds
        Kinds of what lies outside, from above; a record may lack some.
    score
        The score of confidence, such as ``"gen"``.
    title
        The finding.
    """
    size = (1, len(records), 1.1 + 0.55 * len(kinds))
    with figure(*size, sharey=True, sharex=True, squeeze=False) as (made, axes):
        for axis, (name, record) in zip(axes[0], records.items(), strict=True):
            axis.axvline(0.5, color=COLOURS["noise"], linewidth=0.8)
            for shift, method in enumerate(methods):
                runs, look = of_method(record["runs"], method), METHODS[method]
                for place, kind in enumerate(kinds):
                    key = f"{kind} {score}"
                    if key not in runs[0]["auroc"]:
                        continue
                    mean, half = mean_interval([run["auroc"][key] for run in runs])
                    axis.errorbar(
                        mean, -place - 0.15 * (shift - (len(methods) - 1) / 2), xerr=half,
                        linestyle="none", marker=look["marker"], color=look["color"],
                        capsize=2, markersize=4.5,
                        label=look["label"] if kind == kinds[-1] else None,
                    )  # fmt: skip
            axis.set_title(name, loc="center", fontsize=9.5)
            axis.set_xlabel("AUROC")
        axes[0, 0].set_yticks(-np.arange(len(kinds)), list(kinds))
        axes[0, 0].set_ylabel("outside")
        legend_below(made, axes[0, 0], 3)
        made.suptitle(title, fontsize=11)
    return made
