"""Figures of training and of tests over many seeds, drawn from records."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from rollingq_core.plots.style import COLOURS, METHODS, figure
from rollingq_core.statistics import Rows, mean_interval, of_method, paired_difference, signed
from rollingq_core.tables import Table


def epoch_curves(
    runs: Rows,
    methods: Sequence[str],
    first_epoch: int,
    title: str,
    modalities: tuple[str, str] = ("audio", "visual"),
) -> Figure:
    """Draw AIR, share, query length and gradient norms over epochs, mean and sd over seeds.

    Parameters
    ----------
    runs
        Runs of a comparison record.
    methods
        Which to draw.
    first_epoch
        Epochs before fusion started; the axis counts from the start of fusion.
    title
        The finding.
    modalities
        Whose share is drawn, and whose gradient norm is told as a multiple of its.
    """
    favoured, other = modalities
    panels = {
        "AIR": lambda run: run["history"]["air"],
        f"attention share of {favoured}": lambda run: [
            share[favoured] for share in run["history"]["share"]
        ],
        "|q|": lambda run: run["history"]["query_norm"],
        f"gradient, {other} / {favoured}": lambda run: [
            norm[other] / norm[favoured] for norm in run["history"]["gradient_norm"][first_epoch:]
        ],
    }
    with figure(2, 2, 4.8, sharex=True) as (made, axes):
        for axis, (label, curve) in zip(axes.flat, panels.items(), strict=True):
            for method in methods:
                curves = np.array([curve(run) for run in of_method(runs, method)])
                epochs = np.arange(1, curves.shape[1] + 1)
                mean, spread = curves.mean(axis=0), curves.std(axis=0, ddof=1)
                style = {k: v for k, v in METHODS[method].items() if k != "marker"}
                axis.plot(epochs, mean, **style)
                axis.fill_between(
                    epochs, mean - spread, mean + spread, color=style["color"], alpha=0.18, lw=0
                )
            axis.set_ylabel(label)
        for axis in axes[1]:
            axis.set_xlabel("epoch of fusion")
        for epoch in sorted({e["epoch"] for run in runs for e in run["events"]}):
            axes[0, 0].axvline(epoch + 1, ymax=0.04, color=COLOURS["query"], linewidth=1.2)
        axes[0, 0].axhline(0, color=COLOURS["noise"], linewidth=0.8)
        axes[0, 1].axhline(0.5, color=COLOURS["noise"], linewidth=0.8)
        axes[1, 1].legend(loc="upper right")
        made.suptitle(title, fontsize=11)
    return made


def noise_curves(
    runs: Rows,
    levels: Sequence[float],
    methods: Sequence[str],
    title: str,
    where: str = "the audio",
) -> Figure:
    """Draw accuracy over the noise level: mean and 95 % interval over seeds.

    Parameters
    ----------
    runs, methods
        Runs of a comparison record, and which methods to draw.
    levels
        Noise levels, in the order of each run's ``accuracy``.
    title
        The finding.
    where
        What the noise is in.
    """
    with figure(height=3.4) as (made, axis):
        for shift, method in enumerate(methods):
            table = np.array([run["accuracy"] for run in of_method(runs, method)]) * 100
            means, halves = np.array([mean_interval(column) for column in table.T]).T
            # Shifted a little, so that the bars of two methods don't hide each other.
            places = np.asarray(levels) + 0.008 * (shift - (len(methods) - 1) / 2)
            axis.errorbar(places, means, halves, capsize=2.5, **METHODS[method])
        axis.set(
            xlabel=f"noise level in {where}",
            ylabel="test accuracy, %",
            xticks=list(levels),
            title=title,
        )
        axis.legend()
    return made


def accuracy_table(
    runs: Rows,
    levels: Sequence[float],
    methods: Sequence[str],
    caption: str,
    favoured: str = "audio",
) -> Table:
    """Return accuracies in %, mean ± sd over seeds, and attention's shares, a row a method.

    ``favoured`` is the modality that the noise is in; its share is the one that is told.
    """
    rows = []
    for method in methods:
        own = of_method(runs, method)
        table = np.array([run["accuracy"] for run in own]) * 100
        normal, noisy = (np.mean([r[key] for r in own]) for key in ("share_normal", "share_noisy"))
        cells = [
            f"{mean:.1f} ± {sd:.1f}"
            for mean, sd in zip(table.mean(axis=0), table.std(axis=0, ddof=1), strict=True)
        ]
        pearson = np.mean([run["pearson"] for run in own])
        rows.append(
            [
                METHODS[method]["label"],
                *cells,
                f"{normal:.2f} → {noisy:.2f}",
                "none" if method == "uniform" else signed(pearson, 2),
            ]
        )
    header = ["method", *(f"noise {level:g}" for level in levels)]
    header += [f"{favoured} share", "correlation"]
    return Table(header, rows, caption)


def difference_table(
    runs: Rows, levels: Sequence[float], pairs: Sequence[tuple[str, str]], caption: str
) -> Table:
    """Return paired differences of accuracy in points, mean ± 95 % half width, a row a pair."""
    rows = []
    for method, baseline in pairs:
        cells = []
        for index in range(len(levels)):
            mean, half = paired_difference(runs, method, baseline, lambda r: r["accuracy"][index])  # noqa: B023
            cells.append(f"{signed(100 * mean, 1)} ± {100 * half:.1f}")
        rows.append([f"{METHODS[method]['label']} − {METHODS[baseline]['label']}", *cells])
    return Table(["difference", *(f"noise {level:g}" for level in levels)], rows, caption)
