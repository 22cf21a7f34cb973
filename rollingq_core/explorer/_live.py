"""The live face of the training map: sliders for any rho and beta, and a button that trains."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets
import torch

from rollingq_core.data import DataSplits, load_dataset
from rollingq_core.explorer._controls import Slider
from rollingq_core.explorer._page import written
from rollingq_core.explorer._widgets import slider, watch
from rollingq_core.reproduce.reports import summarise
from rollingq_core.runs import train
from rollingq_core.settings import Setting

SEED = 0


class LiveTraining:
    """Sliders, a button and a progress bar over a picture.

    Training runs inside the button's callback, and each epoch is drawn as it ends.

    Parameters
    ----------
    paint
        From rho, beta, the live runs (the newest last) and a sentence to the picture's HTML.
    rho, beta
        Where the sliders stand at first.
    setting, data
        What to train; without data, the synthetic tokens.
    """

    def __init__(
        self,
        paint: Callable[[float, float, Sequence[dict[str, Any]], str], str],
        rho: float,
        beta: float,
        setting: Setting,
        data: DataSplits | None,
    ) -> None:
        self.paint, self.setting, self.data = paint, setting, data
        self.runs: list[dict[str, Any]] = []
        self.state = "The button trains a model at exactly this ρ and β. It takes some seconds."
        self.rho = slider(Slider("rho", "strength ρ", rho, 0.1, 10, 0.1, 2))
        self.beta = slider(Slider("beta", "threshold β", beta, 0, 1, 0.01, 2))
        self.button = ipywidgets.Button(description="Train", button_style="primary")
        self.progress = ipywidgets.IntProgress(0, max=1, description="epochs")
        self.picture = ipywidgets.HTML()
        self.button.on_click(self.train)
        watch(self.draw, self.rho, self.beta)
        row = ipywidgets.HBox([self.button, self.progress])
        self.view = ipywidgets.VBox([self.rho, self.beta, row, self.picture])

    def draw(self, _=None) -> None:
        """Paint what belongs to the sliders, and all live runs."""
        self.picture.value = self.paint(self.rho.value, self.beta.value, self.runs, self.state)

    def train(self, _=None) -> None:
        """Train at the sliders' rho and beta; what goes wrong is said, not raised."""
        self.button.disabled = True
        self.runs.append({})
        try:
            # The notebook's own random numbers stay as they were.
            with torch.random.fork_rng(devices=[]):
                self.state = self._train(self.rho.value, self.beta.value)
        except Exception as error:
            self.runs.pop()
            self.state = f"Training stopped. {type(error).__name__}: {error}"
        finally:
            self.button.disabled = False
            self.draw()

    def _train(self, rho: float, beta: float) -> str:
        """Train and draw, and return what came out."""
        here = f"ρ = {rho:.3g}, β = {beta:.3g}, seed {SEED}"
        self.state = f"Training at {here}."
        self.progress.value = 0
        self.draw()
        if self.data is None:
            self.data = load_dataset("synthetic", seed=SEED)
        training = self.setting.training
        self.progress.max = training.pretrain_epochs + training.epochs

        def on_epoch(record: dict[str, Any]) -> None:
            if record["stage"] == "fusion":
                values = record | {"share": record["share"]["audio"]}
                for name in ("air", "share", "query_norm", "validation_accuracy"):
                    self.runs[-1].setdefault(name, []).append(values[name])
            self.progress.value = record["epoch"] + 1
            self.state = f"Training at {here}: epoch {self.progress.value} of {self.progress.max}."
            self.draw()

        setting = replace(self.setting, rho=rho, beta=beta)
        run = train("mt+rollingq", self.data, setting=setting, seed=SEED, on_epoch=on_epoch)
        row = summarise("mt+rollingq", SEED, run)
        clean, noisy = (written(100 * row["accuracy"][level], 1) for level in (0, -1))
        before, after, pearson = (
            written(row[name], 2) for name in ("share_normal", "share_noisy", "pearson")
        )
        count = len(run.events)
        return (
            f"Your run at {here}: {count} rotation{'s' * (count != 1)}. Test accuracy {clean} %, "
            f"where audio is noise {noisy} %. With that noise audio’s share of attention goes from "
            f"{before} to {after}; its correlation with the noise is {pearson}."
        )
