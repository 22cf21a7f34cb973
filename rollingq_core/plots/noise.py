"""Figures of the noise tests, drawn from their records."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rollingq_core.plots.style import (
    COLOURS,
    INK,
    METHODS,
    figure,
    legend_below,
    looks_of,
)
from rollingq_core.statistics import (
    Rows,
    mean_interval,
    of_method,
    paired_difference,
    signed,
)
from rollingq_core.tables import Table

Records = Mapping[str, Mapping[str, Any]]
MECHANISMS = {
    "mix": "mixed in",
    "add": "added",
    "replace": "replaced",
    "zeros": "missing",
    "offset": "shifted, then\nmissing",
}
# Of sets, whose colours would be those of modalities.
MARKERS = "osD^vPX*"


def _dots(axis, places, columns: Sequence[Sequence[float]], method: str, **options) -> None:
    means, halves = np.array([mean_interval(column) for column in columns]).T
    style = METHODS[method] | options
    axis.errorbar(means, places, xerr=halves, capsize=2, **style | {"linestyle": "none"})


def detection_dots(records: Records, methods: Sequence[str], title: str) -> Figure:
    """Draw how well attention detects noise: correlation and AUROC, mean and 95 % interval.

    Parameters
    ----------
    records
        Records of ``table2`` by the name of their panel's row.
    methods
        Which to draw.
    title
        The finding.
    """
    height = 0.95 * len(records) + 1.2
    with figure(1, 2, height, sharey=True) as (made, axes):
        for axis, key, label, still in zip(
            axes, ("pearson", "auroc"), ("correlation", "AUROC"), (0, 0.5), strict=True
        ):
            axis.axvline(still, color=COLOURS["noise"], linewidth=0.8)
            for shift, method in enumerate(methods):
                places = -np.arange(len(records)) - 0.15 * (shift - (len(methods) - 1) / 2)
                columns = [
                    [run[key] for run in of_method(record["runs"], method)]
                    for record in records.values()
                ]
                _dots(axis, places, columns, method)
            axis.set_xlabel(label)
        axes[0].set_yticks(-np.arange(len(records)), list(records), color=INK)
        axes[0].set_ylabel("data")
        legend_below(made, axes[0], 4)
        made.suptitle(title, fontsize=11)
    return made


def noise_grid(
    record: Mapping[str, Any],
    methods: Sequence[str],
    title: str,
    mechanisms: Sequence[str] = ("mix", "add", "replace"),
) -> Figure:
    """Draw accuracy over the noise level: a row a mechanism, a column for who gets the noise.

    Parameters
    ----------
    record
        A record of ``table3``; who gets the noise is told by the names in its runs.
    methods
        Which to draw.
    title
        The finding.
    mechanisms
        What the noise does, a row each.
    """
    targets = [name.removeprefix("mix ") for name in record["runs"][0] if name.startswith("mix ")]
    size = (len(mechanisms), len(targets), 1.4 * len(mechanisms) + 1.4)
    with figure(*size, stacks=False, sharex=True, sharey=True, squeeze=False) as (made, axes):
        for row, mechanism in zip(axes, mechanisms, strict=True):
            for axis, target in zip(row, targets, strict=True):
                for method in methods:
                    curves = np.array(
                        [run[f"{mechanism} {target}"] for run in of_method(record["runs"], method)]
                    )
                    means, halves = np.array([mean_interval(c) for c in 100 * curves.T]).T
                    style = METHODS[method] | {"markersize": 3, "linewidth": 1.4}
                    axis.errorbar(record["levels"], means, halves, capsize=1.5, **style)
            row[0].set_ylabel(f"{MECHANISMS[mechanism]}\naccuracy, %", fontsize=9)
        for axis, target in zip(axes[0], targets, strict=True):
            axis.set_title(f"noise in {target}", loc="center", fontsize=9.5)
        for axis in axes[-1]:
            axis.set_xlabel("noise level")
            # Each other level has its number, so that the numbers don't touch on a phone.
            words = [f"{level:g}" if i % 2 == 0 else "" for i, level in enumerate(record["levels"])]
            axis.set_xticks(record["levels"], words)
        legend_below(made, axes[0, 0], 3)
        made.suptitle(title, fontsize=11)
    return made


def gain_by_detection(
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]], blind: float, title: str
) -> Figure:
    """Draw what a turn gains over how well attention noticed noise without one, a point a set.

    Parameters
    ----------
    points
        By set: how well vanilla's attention notices, and the gain in points, over seeds.
    blind
        Where attention notices nothing.
    title
        The finding.
    """
    with figure(1, 1, 3.4) as (made, axes):
        axes.axhline(0, color=COLOURS["noise"], linewidth=0.8)
        axes.axvline(blind, color=COLOURS["noise"], linewidth=0.8)
        for (name, columns), marker in zip(points.items(), MARKERS, strict=False):
            (x, x_half), (y, y_half) = map(mean_interval, columns)
            axes.errorbar(
                x, y, xerr=x_half, yerr=y_half, capsize=2, linestyle="none", marker=marker,
                markersize=7, elinewidth=1, color=INK, label=name,
            )  # fmt: skip
        axes.set_xlabel("AUROC of vanilla's attention on noise")
        axes.set_ylabel("RollingQ minus vanilla, points")
        legend_below(made, axes, 3)
        made.suptitle(title, fontsize=11)
    return made


def conflict_bars(records: Records, methods: Sequence[str], title: str) -> Figure:
    """Draw whom the answers follow where the modalities disagree, a panel a record.

    Parameters
    ----------
    records
        Records of ``conflict`` by the name of their panel.
    methods
        Which to draw.
    title
        The finding.
    """
    with figure(1, len(records), 0.33 * len(methods) + 1.5, sharey=True) as (made, axes):
        for axis, (name, record) in zip(np.atleast_1d(axes), records.items(), strict=True):
            for place, method in enumerate(methods):
                runs = of_method(record["runs"], method)
                bars = [
                    (
                        np.mean([run["follows"][modality] for run in runs]),
                        look["color"],
                        look["hatch"],
                    )
                    for modality, look in looks_of(runs[0]["follows"]).items()
                ]
                # Between the first modality and the others.
                bars.insert(1, (np.mean([run["neither"] for run in runs]), COLOURS["noise"], ".."))
                left = 0.0
                for fraction, colour, hatch in bars:
                    width = 100 * fraction
                    axis.barh(
                        -place, width, left=left, color=colour, hatch=hatch, height=0.72,
                        edgecolor="#fafafa", linewidth=0.4,
                    )  # fmt: skip
                    if width > 4.5 * len(records):
                        axis.text(
                            left + width / 2, -place, f"{width:.0f}", ha="center", va="center",
                            color="#fafafa", fontsize=9, fontweight="bold",
                            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1},
                        )  # fmt: skip
                    left += width
            axis.set_xlim(0, 100)
            axis.set_title(name, loc="center", fontsize=9.5)
            axis.set_xlabel("answers, %")
            axis.set_yticks(-np.arange(len(methods)), [METHODS[m]["label"] for m in methods])
        np.atleast_1d(axes)[0].set_ylabel("method")
        made.suptitle(title, fontsize=11)
    return made


def calibration_curves(
    records: Records, methods: Sequence[str], title: str, favoured: str = "audio"
) -> Figure:
    """Draw the calibration error over the noise level, and reliability at the highest level.

    Parameters
    ----------
    records
        Records of ``calibration`` by the title of their column.
    methods, title
        Which to draw, and the finding.
    favoured
        The modality that the noise is in.
    """
    with figure(2, len(records), 4.9, sharex="row", sharey="row", squeeze=False) as (made, axes):
        for (upper, lower), (name, record) in zip(axes.T, records.items(), strict=True):
            for method in methods:
                runs = of_method(record["runs"], method)
                means, halves = np.array(
                    [mean_interval(c) for c in np.array([run["ece"] for run in runs]).T]
                ).T
                style = METHODS[method] | {"markersize": 3.5, "linewidth": 1.4}
                upper.errorbar(record["levels"], means, halves, capsize=2, **style)
                lower.plot(*_reliability(runs), **style)
            lower.plot([0, 1], [0, 1], color=COLOURS["noise"], linewidth=0.8)
            upper.set_title(name, loc="center", fontsize=9.5)
            upper.set(xlabel=f"noise level in {favoured}", ylim=(0, None))
            upper.set_xticks(record["levels"], [f"{level:g}" for level in record["levels"]])
            lower.set(xlabel="confidence")
        axes[0, 0].set_ylabel("expected\ncalibration error")
        axes[1, 0].set_ylabel(f"accuracy\nwhere {favoured} is noise")
        legend_below(made, axes[0, 0], 3)
        made.suptitle(title, fontsize=11)
    return made


def _reliability(runs: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence and accuracy at the highest level, all runs together."""
    bins = np.array([run["reliability"][-1] for run in runs])
    weight = bins[..., 0].sum(0)
    kept = weight > 0.01 * len(runs)
    confidence, accuracy = (
        (bins[..., 0] * bins[..., i]).sum(0)[kept] / weight[kept] for i in (1, 2)
    )
    return confidence, accuracy


def values_by_set(
    records: Records,
    methods: Sequence[str],
    values: Mapping[str, Callable[[Mapping[str, Any]], float | None]],
    caption: str,
    digits: int = 2,
) -> Table:
    """Return mean ± sd over seeds, a column a record; None counts as missing."""

    def cell(record: Mapping[str, Any], method: str, value: Callable) -> str:
        numbers = [value(run) for run in of_method(record["runs"], method)]
        numbers = [number for number in numbers if number is not None]
        if len(numbers) < 2:
            return "none"
        text = f"{np.mean(numbers):.{digits}f} ± {np.std(numbers, ddof=1):.{digits}f}"
        return text.replace("-", "−")

    rows = [
        [f"{name}: {METHODS[method]['label']}", *(cell(r, method, value) for r in records.values())]
        for name, value in values.items()
        for method in methods
    ]
    return Table(["mean ± sd", *records], rows, caption)


def differences_by_set(
    records: Records,
    pairs: Sequence[tuple[str, str]],
    values: Mapping[str, Callable[[Mapping[str, Any]], float]],
    caption: str,
    digits: int = 2,
) -> Table:
    """Return paired differences, mean ± 95 % half width, a column a record."""
    rows = []
    for name, value in values.items():
        for method, baseline in pairs:
            differences = [
                paired_difference(r["runs"], method, baseline, value) for r in records.values()
            ]
            label = f"{METHODS[method]['label']} − {METHODS[baseline]['label']}"
            cells = [f"{signed(mean, digits)} ± {half:.{digits}f}" for mean, half in differences]
            rows.append([f"{name}: {label}", *cells])
    return Table(["difference", *records], rows, caption)
