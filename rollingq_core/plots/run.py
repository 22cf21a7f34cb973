"""The figure of one run, as it trains or when it is done."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rollingq_core.plots.style import COLOURS, INK, figure, looks_of


def run_curves(history: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw AIR, each modality's share and the accuracy of one run over its epochs of fusion.

    Parameters
    ----------
    history
        What :func:`rollingq_core.training.fit` returns; epochs of pretraining are left out.
    title
        The finding.
    """
    fused = [record for record in history if record["stage"] == "fusion"]
    epochs = [record["epoch"] + 1 for record in fused]
    with figure(1, 3, 2.7) as (made, axes):
        imbalance, share, accuracy = axes
        imbalance.plot(epochs, [r["air"] for r in fused], color=COLOURS["query"], marker=".")
        imbalance.axhline(0, color=COLOURS["noise"], linewidth=0.8)
        for name, look in looks_of(fused[0]["share"] if fused else ()).items():
            curve = [r["share"][name] for r in fused]
            share.plot(epochs, curve, look["linestyle"], color=look["color"], label=name)
        for name, line in (("train", ":"), ("validation", "-")):
            curve = [100 * r[f"{name}_accuracy"] for r in fused]
            accuracy.plot(epochs, curve, line, color=INK, label=name)
        share.set_ylim(0, 1)
        accuracy.set_ylim(0, 100)
        for record in fused:
            if record["rotation"]:
                for axis in axes:
                    axis.axvline(
                        record["epoch"] + 1, color=COLOURS["anchor"], linestyle=":", linewidth=1.2
                    )
        labels = ("AIR", "attention share", "accuracy, %")
        for axis, label in zip(axes, labels, strict=True):
            axis.set(ylabel=label, xlabel="epoch")
            axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if fused:
            share.legend()
            accuracy.legend()
        made.suptitle(title, fontsize=11)
    return made
