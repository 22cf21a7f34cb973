"""Figures of a contrast: shares and keys of the same samples, normal and with noise instead."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rollingq_core.evaluation.attention import AttentionContrast
from rollingq_core.models.predictions import Predictions
from rollingq_core.plots.style import COLOURS, INK, figure, looks_of


def share_distributions(contrasts: Mapping[str, AttentionContrast], title: str) -> Figure:
    """Draw the attention share of one modality, normal and replaced by noise (paper: Fig. 1c).

    Parameters
    ----------
    contrasts, title
        One panel each, by panel title; and the finding.
    """
    with figure(1, len(contrasts), 2.8, sharey=True, sharex=True, squeeze=False) as (made, axes):
        for axis, (name, contrast) in zip(axes[0], contrasts.items(), strict=True):
            _shares(axis, contrast)
            axis.set(title=name, xlabel=f"attention share of {contrast.modality}")
            axis.legend(loc="upper left")
        axes[0, 0].set_ylabel("share of test samples")
        made.suptitle(title, fontsize=11)
    return made


def key_distributions(contrasts: Mapping[str, AttentionContrast], title: str) -> Figure:
    """Draw average keys in the paper's coordinates: cosine with the query, and norm (Fig. 1d, 2).

    Parameters
    ----------
    contrasts
        One column each, by column title; the upper panels show normal samples, the lower ones
        those in which the modality is noise.
    title
        The finding.
    """
    with figure(2, len(contrasts), 4.6, sharex=True, sharey=True, squeeze=False, dpi=200) as (
        made,
        axes,
    ):
        for column, (name, contrast) in enumerate(contrasts.items()):
            for row, answers in enumerate((contrast.normal, contrast.noisy)):
                axis = axes[row, column]
                for index, modality in enumerate(contrast.modalities):
                    look = looks_of(contrast.modalities)[modality]
                    noisy = row == 1 and modality == contrast.modality
                    _keys(axis, answers, index, modality, look, noisy)
                axis.axvline(0, color=COLOURS["noise"], linewidth=0.8)
                axis.set_xlim(-1, 1)
                if row == 0:
                    axis.set_title(name)
                for handle in axis.legend(loc="upper right", handletextpad=0.1).legend_handles:
                    handle.set_alpha(1)
            axes[1, column].set_xlabel("cosine with the query")
        # Room for the legends above the highest mark.
        axes[0, 0].set_ylim(top=1.15 * axes[0, 0].get_ylim()[1])
        for row, kind in enumerate(("normal", f"{contrast.modality} replaced")):
            axes[row, 0].set_ylabel(f"{kind}\nnorm of the average key")
        made.suptitle(title, fontsize=11)
    return made


def shares_beside_keys(
    contrasts: Mapping[str, AttentionContrast], title: str, every: int = 1
) -> Figure:
    """Draw shares on the left and the keys that made them on the right (paper: Fig. 1c-d, 4d, 5).

    Parameters
    ----------
    contrasts
        One row each, by row title.
    title
        The finding.
    every
        Draw the keys of each ``every``-th sample, so that the clouds stay apart.
    """
    height = 2.1 * len(contrasts) + 0.9
    with figure(len(contrasts), 2, height, sharex="col", sharey="col", squeeze=False, dpi=200) as (
        made,
        axes,
    ):
        for (left, right), (name, contrast) in zip(axes, contrasts.items(), strict=True):
            _shares(left, contrast)
            # The replaced modality comes last, so that its marks lie on top.
            for index, modality in sorted(
                enumerate(contrast.modalities), key=lambda pair: pair[1] == contrast.modality
            ):
                look = looks_of(contrast.modalities)[modality]
                kinds = (contrast.normal, contrast.noisy)
                for noisy, answers in enumerate(
                    kinds if modality == contrast.modality else kinds[:1]
                ):
                    alpha = 0.7 if noisy else 0.35
                    _keys(right, answers, index, modality, look, bool(noisy), alpha, every)
            left.set(title=name, ylabel="share of test samples")
            right.set(title=name, ylabel="norm of the average key")
        left.set_xlabel(f"attention share of {contrast.modality}")
        right.set_xlabel("cosine with the query")
        for axis, columns in zip(axes[-1], (2, 3), strict=True):
            handles, labels = axis.get_legend_handles_labels()
            below = axis.legend(
                handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.26), ncols=columns,
                handletextpad=0.3, columnspacing=0.8, fontsize=8.5,
            )  # fmt: skip
            for handle in below.legend_handles:
                handle.set_alpha(1)
        made.suptitle(title, fontsize=11)
    return made


def _shares(axis: Axes, contrast: AttentionContrast) -> None:
    colour = looks_of(contrast.modalities)[contrast.modality]["color"]
    kinds = (
        (f"normal {contrast.modality}", colour, None),
        (f"{contrast.modality} is noise", COLOURS["noise"], "///"),
    )
    for (label, shade, hatch), share in zip(kinds, contrast.share, strict=True):
        axis.hist(
            share.numpy(),
            np.linspace(0, 1, 41).tolist(),
            weights=np.full(len(share), 1 / len(share)),
            histtype="stepfilled",
            facecolor=(shade, 0.45),
            edgecolor=INK if hatch else shade,
            linewidth=0.6,
            hatch=hatch,
            label=label,
        )
        axis.axvline(float(share.mean()), color=shade, linewidth=1.6)
    axis.set_xlim(0, 1)


def _keys(
    axis: Axes,
    answers: Predictions,
    index: int,
    modality: str,
    look: Mapping[str, str],
    noisy: bool,
    alpha: float = 0.35,
    every: int = 1,
) -> None:
    assert answers.cosines is not None  # as the model has attention
    assert answers.key_norms is not None
    axis.scatter(
        answers.cosines[::every, index],
        answers.key_norms[::every, index],
        s=9,
        alpha=alpha,
        linewidths=0.8 if noisy else 0,
        marker="x" if noisy else look["marker"],
        color=COLOURS["noise"] if noisy else look["color"],
        label=f"{modality} is noise" if noisy else modality,
        rasterized=True,
    )
