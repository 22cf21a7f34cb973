"""The training map: what rho and beta do to a whole training run, from a record of real runs."""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rollingq_core._checks import require_number
from rollingq_core.data import DataSplits
from rollingq_core.explorer._controls import Slider
from rollingq_core.explorer._grid import Grid
from rollingq_core.explorer._page import Explorer, readout, table
from rollingq_core.explorer._panels import Panels
from rollingq_core.settings import SETTINGS, Setting

if TYPE_CHECKING:
    from ipywidgets import Widget


class TrainingMap(Explorer):
    """AIR, attention, query length and accuracy over the epochs of real runs, by rho and beta.

    On a page the sliders step through the record's grid. In a running notebook they take any value,
    and a button trains a model at just this rho and beta, which is drawn over the nearest point of
    the grid.

    Parameters
    ----------
    record
        A record of a sweep: ``seeds``, ``rhos``, ``betas``, ``levels`` of noise, and ``runs``. A
        run has ``method`` (``"mt"`` or ``"mt+rollingq"``), ``seed``, ``cells`` (the grid points
        of which it is the run, as indices of rho and beta; those where no rotation was called for
        stand at the vanilla run), over epochs ``air``, ``share`` (audio's), ``query_norm`` and
        ``validation_accuracy``, the epochs of its ``rotations`` (from 0), its test ``accuracy`` at
        each level, and ``share_normal``, ``share_noisy`` and ``pearson``.
    rho, beta
        Where the sliders stand at first; a page shows the nearest grid point.
    setting, data
        What the button trains: setting T on the synthetic tokens of seed 0, unless given.

    Raises
    ------
    ValueError
        Rho or beta out of range, fewer than two seeds, or a grid point without exactly one run at
        each seed.
    """

    title: ClassVar[str] = "Training map"
    script: ClassVar[str] = "training_map.js"
    templates: ClassVar[dict[str, str]] = {
        "readout": "ρ = {rho}, β = {beta}: {mean_rotations} rotations a run. Test accuracy "
        "{mean_clean} %, vanilla {vanilla_mean_clean} %; where audio is noise {mean_noisy} %, "
        "vanilla {vanilla_mean_noisy} %. With that noise audio’s share of attention goes from "
        "{mean_share_normal} to {mean_share_noisy}, vanilla’s from {vanilla_mean_share_normal} to "
        "{vanilla_mean_share_noisy}.",
        "label": "Four panels of curves over {epochs} epochs, at rho {rho} and beta {beta}. After "
        "the last epoch, with vanilla in brackets: AIR {air_end} ({vanilla_air_end}), audio’s "
        "attention share {share_end} ({vanilla_share_end}), length of the query {query_norm_end} "
        "({vanilla_query_norm_end}), validation accuracy {validation_accuracy_end} % "
        "({vanilla_validation_accuracy_end} %).",
    }

    def __init__(
        self,
        record: Mapping[str, Any],
        rho: float = 3,
        beta: float = 0.1,
        *,
        setting: Setting | None = None,
        data: DataSplits | None = None,
    ) -> None:
        self.rho = require_number("rho", rho, at_least=0.1, at_most=10)
        self.beta = require_number("beta", beta, at_least=0, at_most=1)
        self.setting = SETTINGS["T"] if setting is None else setting
        self.data = data
        self.grid = Grid(record)
        self._panels = Panels(self.grid)

    def __repr__(self) -> str:
        grid = self.grid
        size = f"{len(grid.rhos)} × {len(grid.betas)}"
        return f"TrainingMap({size} grid of rho and beta, {len(grid.seeds)} seeds)"

    def _controls(self) -> list[Slider]:
        at = self.grid.nearest(self.rho, self.beta)
        names = {"rho": ("strength ρ", self.grid.rhos), "beta": ("threshold β", self.grid.betas)}
        return [
            Slider.over(name, title, at[name], [f"{value:.3g}" for value in values])
            for name, (title, values) in names.items()
        ]

    def _texts(self, settings: dict[str, int]) -> dict[str, str]:
        texts = {
            control.name: control.stops[settings[control.name]] for control in self._controls()
        }
        return texts | self._fixed() | self.grid.point(**settings).texts

    def _fixed(self) -> dict[str, str]:
        vanilla = self.grid.vanilla.texts
        fixed = {f"vanilla_{n}": t for n, t in vanilla.items() if not n.endswith("_difference")}
        return fixed | {"epochs": str(self.grid.epochs)}

    def _data(self) -> dict[str, Any]:
        rho, beta = self._controls()
        return {
            "rhos": rho.stops,
            "betas": beta.stops,
            "cells": self.grid.cells,
            "x": [f"{x:.1f}" for x in self._panels.x(self.grid.epochs)],
            "fixed": self._fixed(),
            "names": list(self.grid.vanilla.texts),
            "points": [
                {
                    "curves": self._panels.heights(point),
                    "rotations": self._panels.marks(point.rotations),
                    "texts": list(point.texts.values()),
                }
                for point in self.grid.points
            ],
        }

    def _caption(self) -> str:
        return (
            f"Real training runs, {len(self.grid.seeds)} seeds a point. Pink: the mean, and in a "
            "band one standard deviation on either side. Dashed: the mean without rotations. "
            "Ticks at the bottom: rotations after that epoch, full height where all seeds turned. "
            "Table: test accuracy in %, audio’s share of attention, and its correlation with the "
            "noise; ± is one standard deviation over seeds, and for the difference, taken seed by "
            "seed, half the width of its 95 % interval."
        )

    def _picture(self, settings: dict[str, int]) -> str:
        said = self._said(settings)
        return self._panels.drawing(settings, said["label"]) + readout(said) + self._table(said)

    def _live(self) -> "Widget":
        from rollingq_core.explorer._live import LiveTraining

        live = LiveTraining(self._overlaid, self.rho, self.beta, self.setting, self.data)
        return live.view

    def _overlaid(
        self, rho: float, beta: float, runs: Sequence[Mapping[str, Any]], state: str
    ) -> str:
        """Return the nearest grid point's picture with live runs over it."""
        settings = self.grid.nearest(rho, beta)
        said = self._said(settings)
        return (
            self._panels.drawing(settings, said["label"], runs)
            + f'<p aria-live="polite" data-text="live">{html.escape(state)}</p>'
            f'<p>The nearest point of the record: <span data-text="readout">{said["readout"]}'
            f"</span></p>{self._table(said)}"
        )

    def _table(self, said: dict[str, str]) -> str:
        """Return the numbers at the end: of the point, of vanilla, and the difference."""
        named = {0: "clean", 1: "all noise"}
        titles = {
            f"accuracy_{k}": f"accuracy, {named.get(level, f'noise {level:g}')}"
            for k, level in enumerate(self.grid.levels)
        }
        titles |= {
            "share_normal": "share, clean",
            "share_noisy": "share, all noise",
            "pearson": "correlation",
            "rotations": "rotations",
        }
        return table(
            ["RollingQ", "vanilla", "difference"],
            [(t, [n, f"vanilla_{n}", f"{n}_difference"]) for n, t in titles.items()],
            said,
        )
