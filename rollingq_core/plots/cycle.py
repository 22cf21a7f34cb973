"""Figures of the self-reinforcing cycle: its start, its gradients, and a model of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rollingq_core.plots.style import COLOURS, INK, METHODS, colour_of, figure, looks_of
from rollingq_core.statistics import Rows, of_method
from rollingq_core.theory import FeedbackLoop, PathSizes

MARKERS = ("o", "s", "^", "D", "v")


def initial_balance(rows: Sequence[Mapping[str, Any]], tokens: int, title: str) -> Figure:
    """Draw mean and spread of the difference of two modalities' shares before training.

    Parameters
    ----------
    rows
        One dict for each condition: ``dim``, ``cls_std``, ``sharpness`` (length of q over √d),
        ``mean`` and ``half`` (width of its interval) and ``sd`` of audio's share minus visual's.
    tokens
        Tokens of each modality, for the line of short queries.
    title
        The finding.
    """
    with figure(1, 2, 3.0) as (made, axes):
        dims = sorted({row["dim"] for row in rows})
        for place, (dim, marker) in enumerate(zip(dims, MARKERS, strict=False)):
            conditions = [row for row in rows if row["dim"] == dim]
            colour = (INK, COLOURS["noise"], COLOURS["query"], COLOURS["anchor"])[place % 4]
            scales = [row["cls_std"] * 1.18 ** (place - (len(dims) - 1) / 2) for row in conditions]
            axes[0].errorbar(
                scales,
                [row["mean"] for row in conditions],
                [row["half"] for row in conditions],
                fmt=marker,
                color=colour,
                capsize=2.5,
            )
            axes[1].plot(
                [row["sharpness"] for row in conditions],
                [row["sd"] for row in conditions],
                marker,
                color=colour,
                label=f"d = {dim}",
            )
        axes[0].axhline(0, color=COLOURS["noise"], linewidth=0.8)
        axes[0].set(xscale="log", xlabel="sd of the class token", ylabel="mean share difference")
        # Intervals of small scales are invisible beside those of large ones; this keeps both.
        axes[0].set_yscale("symlog", linthresh=1e-3)
        axes[0].set_yticks([-0.1, -0.01, -0.001, 0, 0.001, 0.01, 0.1])
        axes[0].set_ylim(-0.2, 0.2)
        line = np.geomspace(min(r["sharpness"] for r in rows), 1.5, 30)
        axes[1].plot(line, line / np.sqrt(2 * tokens), "--", color=INK, lw=1, label="soft limit")
        axes[1].set(xscale="log", yscale="log", xlabel="|q| / √d", ylabel="sd of share difference")
        axes[1].legend(loc="upper left")
        made.suptitle(title, fontsize=11)
    return made


def paths_over_epochs(sizes: Sequence[PathSizes], modalities: Sequence[str], title: str) -> Figure:
    """Draw the sizes of both gradient paths over epochs, and one modality's multiple of another's.

    Parameters
    ----------
    sizes
        One for each epoch; the first is before training.
    modalities
        Their names, in the order of the fusion; the ratio is that of the first two.
    title
        The finding.
    """
    epochs = np.arange(len(sizes))
    with figure(1, 2, 3.0, sharex=True) as (made, axes):
        for index, (name, look) in enumerate(looks_of(modalities).items()):
            for path, dash in (("value", "-"), ("key", "--")):
                curve = [float(getattr(size, path)[index]) for size in sizes]
                label = f"{name}, {path} path"
                axes[0].plot(epochs, curve, dash, color=look["color"], label=label)
        axes[0].set(ylabel="gradient at the tokens", yscale="log")
        axes[0].minorticks_off()
        styles = {"share": (INK, ":"), "value": (INK, "-"), "key": (INK, "--")}
        for name, (colour, dash) in styles.items():
            pairs = [getattr(size, name) for size in sizes]
            label = "attention share" if name == "share" else f"{name} path"
            ratio = [float(pair[0] / pair[1]) for pair in pairs]
            axes[1].plot(epochs, ratio, linestyle=dash, color=colour, label=label)
        axes[1].axhline(1, color=COLOURS["noise"], linewidth=0.8)
        first, second = modalities[:2]
        axes[1].set(ylabel=f"{first} / {second}", yscale="log")
        axes[1].set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
        axes[1].minorticks_off()
        for axis in axes:
            axis.set_xlabel("epoch")
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axis.legend(fontsize=8)
        made.suptitle(title, fontsize=11)
    return made


def encoder_gradients(
    runs: Rows, methods: Sequence[str], pretrain_epochs: int, title: str
) -> Figure:
    """Draw each encoder's gradient norm over epochs (paper: Fig. 7), a panel for each method.

    Lines are geometric means over seeds, bands one geometric standard deviation.

    Parameters
    ----------
    runs
        Runs of a comparison record; the modalities are those of their gradient norms.
    methods
        Which to draw.
    pretrain_epochs
        Epochs before fusion started; a line marks it.
    title
        The finding.
    """
    with figure(1, len(methods), 3.0, sharey=True, squeeze=False) as (made, axes):
        for axis, method in zip(axes[0], methods, strict=True):
            norms = [run["history"]["gradient_norm"] for run in of_method(runs, method)]
            for name, look in looks_of(norms[0][0]).items():
                curves = np.log([[epoch[name] for epoch in run] for run in norms])
                epochs = np.arange(1, curves.shape[1] + 1)
                mean, spread = curves.mean(axis=0), curves.std(axis=0, ddof=1)
                shade, dash = look["color"], look["linestyle"]
                axis.plot(epochs, np.exp(mean), dash, color=shade, label=name)
                low, high = np.exp(mean - spread), np.exp(mean + spread)
                axis.fill_between(epochs, low, high, color=shade, alpha=0.2, lw=0)
            axis.axvline(pretrain_epochs + 0.5, color=COLOURS["noise"], linewidth=0.8)
            axis.set(title=METHODS[method]["label"], xlabel="epoch", yscale="log")
        axes[0, 0].set_ylabel("gradient norm of the encoder")
        axes[0, 0].legend(loc="lower left")
        made.suptitle(title, fontsize=11)
    return made


def share_paths(groups: Mapping[str, np.ndarray], title: str, favoured: str = "audio") -> Figure:
    """Draw a modality's share of single runs over epochs, a panel for each group.

    Parameters
    ----------
    groups
        Shares ``[runs, epochs + 1]`` by the group's name; the first column is before training.
    title
        The finding.
    favoured
        Whose shares they are.
    """
    with figure(1, len(groups), 2.8, sharey=True, squeeze=False) as (made, axes):
        for axis, (name, shares) in zip(axes[0], groups.items(), strict=True):
            axis.plot(np.asarray(shares).T, color=colour_of(favoured), linewidth=0.9)
            axis.axhline(0.5, color=COLOURS["noise"], linewidth=0.8)
            axis.set(ylim=(0, 1), xlabel="epoch")
            axis.set_title(name)
        axes[0, 0].set_ylabel(f"attention share of {favoured}")
        made.suptitle(title, fontsize=11)
    return made


def loop_portraits(
    loops: Mapping[str, FeedbackLoop],
    title: str,
    paths: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> Figure:
    """Draw the phase plane of the loop: nullclines, fixed points, basins.

    Parameters
    ----------
    loops, title
        One panel each, by panel title; and the finding.
    paths
        Further states to draw in a panel, ``[N, 2]`` each, by panel title: a path's first state is
        marked.
    """
    with figure(1, len(loops), 3.3, sharey=True, squeeze=False) as (made, axes):
        for axis, (name, loop) in zip(axes[0], loops.items(), strict=True):
            _portrait(axis, loop)
            for path in (paths or {}).get(name, ()):
                shares = (1 + np.tanh(path[:, 0])) / 2
                axis.plot(shares, path[:, 1], color=COLOURS["query"], linewidth=2)
                axis.plot(shares[0], path[0, 1], "D", color=COLOURS["query"], markersize=6)
            axis.set(xlim=(0, 1), ylim=(-1.4, 1.4), title=name, xlabel="audio's share")
            axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes[0, 0].set_ylabel("quality gap Δ, audio − visual")
        made.suptitle(title, fontsize=11)
    return made


def _portrait(axis: Axes, loop: FeedbackLoop) -> None:
    share = np.linspace(0.005, 0.995, 199)
    lean = np.arctanh(2 * share - 1)
    boundary = loop.boundary()
    if boundary is not None:
        edge = (1 + np.tanh(boundary[:, 0])) / 2
        axis.fill_betweenx(boundary[:, 1], edge, 1, color=COLOURS["audio"], alpha=0.13, lw=0)
        axis.fill_betweenx(boundary[:, 1], 0, edge, color=COLOURS["visual"], alpha=0.13, lw=0)
        axis.plot(edge, boundary[:, 1], ":", color=INK, linewidth=1.3)
    else:
        (end,) = loop.fixed_points()
        axis.axvspan(0, 1, color=COLOURS["audio" if end.lean > 0 else "visual"], alpha=0.13, lw=0)
    axis.plot(share, np.tanh(lean) + loop.head_start, color=COLOURS["anchor"], lw=1.4)
    if loop.gain:
        axis.plot(share, lean / loop.gain, "--", color=COLOURS["noise"], linewidth=1.4)
    grid = np.stack(np.meshgrid(np.linspace(0.08, 0.92, 8), np.linspace(-1.2, 1.2, 8)), axis=-1)
    states = np.stack([np.arctanh(2 * grid[..., 0] - 1), grid[..., 1]], axis=-1)
    rates = loop.velocity(states)
    flow = np.stack([rates[..., 0] * 2 * grid[..., 0] * (1 - grid[..., 0]), rates[..., 1]], -1)
    # Lengths as on the page, where the gap's axis is longer by its range.
    flow /= np.hypot(flow[..., 0], flow[..., 1] / 2.8)[..., None]
    axis.quiver(
        *np.moveaxis(grid, -1, 0),
        *np.moveaxis(flow * 0.055, -1, 0),
        angles="xy",
        scale_units="xy",
        scale=1,
        color=INK,
        alpha=0.45,
        width=0.005,
    )
    for point in loop.fixed_points():
        place = (1 + np.tanh(point.lean)) / 2
        axis.plot(place, point.gap, "o", color=INK, mfc=INK if point.stable else "none", ms=7)
