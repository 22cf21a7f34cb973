"""Figures of attention: where its mass goes, and what draws it there."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from rollingq_core.plots.style import COLOURS, METHODS, colour_of, figure, looks_of

# Abscissae and ordinates.
Points = tuple[Tensor, Tensor]


def mass_against_imbalance(
    imbalance: Tensor,
    curves: Mapping[str, Tensor],
    measured: Tensor | None,
    title: str,
    favoured: str = "audio",
) -> Figure:
    """Draw a modality's share over AIR for queries of several lengths.

    Parameters
    ----------
    imbalance
        AIR, shape ``[N]``.
    curves
        Its share, shape ``[N]``, by label.
    measured
        Points to mark, shape ``[K, 2]`` (AIR, share), or None.
    title
        The finding.
    favoured
        The modality.
    """
    with figure(height=3.1) as (made, axis):
        styles = ("-", "--", "-.", ":")
        for (label, share), style in zip(curves.items(), styles, strict=False):
            axis.plot(imbalance, share, linestyle=style, color=colour_of(favoured), label=label)
        if measured is not None:
            axis.plot(*measured.T, "o", color=COLOURS["query"], label="trained model, test samples")
        axis.axhline(0.5, color=COLOURS["noise"], linewidth=0.8)
        axis.set(xlabel="AIR", ylabel=f"attention share of {favoured}", ylim=(0, 1), title=title)
        axis.legend()
    return made


def token_attention(
    rows: Mapping[str, Tensor], modalities: Sequence[str], title: str | None = None
) -> Figure:
    """Draw a softmax row as bars, one bar a token, coloured by modality.

    Parameters
    ----------
    rows
        Attention over all tokens, shape ``[L]``, by panel title.
    modalities
        Modality of each token.
    title
        The finding.
    """
    looks = looks_of(modalities)
    with figure(1, len(rows), 2.4, sharey=True, squeeze=False) as (made, axes):
        for axis, (panel, row) in zip(axes[0], rows.items(), strict=True):
            values = torch.as_tensor(row).tolist()
            for place, (value, modality) in enumerate(zip(values, modalities, strict=True)):
                look = looks[modality]
                axis.bar(place, value, color=look["color"], hatch=look["hatch"][:2])
            axis.set(title=panel, xticks=range(len(values)), xlabel=" | ".join(looks) + " tokens")
        axes[0, 0].set_ylabel("attention")
        if title is not None:
            made.suptitle(title, fontsize=11)
    return made


def share_against(
    panels: Mapping[str, Mapping[str, Points]], curve: Points, title: str, favoured: str = "audio"
) -> Figure:
    """Draw a modality's share of each sample over what might explain it.

    Parameters
    ----------
    panels
        By axis label: for each method the explaining quantity and the share, shape ``[N]`` each.
    curve
        A line for the last panel: its abscissae and shares, shape ``[K]`` each.
    title
        The finding.
    favoured
        The modality.
    """
    with figure(1, len(panels), 3.2, sharey=True, squeeze=False) as (made, axes):
        for axis, (label, methods) in zip(axes[0], panels.items(), strict=True):
            for method, (values, share) in methods.items():
                style = METHODS[method]
                axis.scatter(
                    values,
                    share,
                    s=8,
                    alpha=0.35,
                    linewidths=0,
                    color=style["color"],
                    marker=style["marker"],
                    label=style["label"],
                )
            axis.set(xlabel=label, ylim=(0, 1))
        axes[0, -1].plot(*curve, color=COLOURS["noise"], label="share without spread")
        axes[0, 0].set_ylabel(f"attention share of {favoured}")
        for handle in axes[0, -1].legend(loc="lower right", markerscale=2).legend_handles:
            handle.set_alpha(1)
        made.suptitle(title, fontsize=11)
    return made


def lean_over_epochs(histories: Mapping[str, Sequence[Sequence[Mapping]]], title: str) -> Figure:
    """Draw cosines and share of the modalities over epochs: mean and sd over runs (Fig. 2, 6).

    Parameters
    ----------
    histories
        By method, one column each: the fusion epochs of each run, as :func:`fit` returns them.
    title
        The finding.
    """
    labels = {"cosines": "cosine with the query", "share": "attention share"}
    with figure(2, len(histories), 4.4, sharex=True, sharey="row", squeeze=False) as (made, axes):
        for column, (method, runs) in enumerate(histories.items()):
            for axis, field in zip(axes[:, column], labels, strict=True):
                for modality, look in looks_of(runs[0][0][field]).items():
                    curves = np.array([[e[field][modality] for e in run] for run in runs])
                    epochs = np.arange(1, curves.shape[1] + 1)
                    mean, spread = curves.mean(axis=0), curves.std(axis=0, ddof=1)
                    shade, marker = look["color"], look["marker"]
                    axis.plot(epochs, mean, color=shade, marker=marker, markevery=8, label=modality)
                    axis.fill_between(
                        epochs, mean - spread, mean + spread, color=shade, alpha=0.18, lw=0
                    )
            turned = {i + 1 for run in runs for i, e in enumerate(run) if e["rotation"]}
            for epoch in sorted(turned):
                axes[0, column].axvline(epoch, ymax=0.04, color=COLOURS["query"], linewidth=1.2)
            axes[0, column].set_title(METHODS[method]["label"])
            axes[1, column].set(xlabel="epoch of fusion", ylim=(0, 1))
        for axis, label in zip(axes[:, 0], labels.values(), strict=True):
            axis.set_ylabel(label)
        axes[1, 0].legend(loc="center right")
        made.suptitle(title, fontsize=11)
    return made
