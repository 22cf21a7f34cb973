"""What RollingQ adds to a training step of the paper's model, at the paper's input sizes."""

import warnings

import torch

from benchmarks.measure import interleaved_seconds
from rollingq_core import RollingQ
from rollingq_core.data import DataSplits, PairedDataset
from rollingq_core.models.paper import build_paper_model
from rollingq_core.settings import PAPER
from rollingq_core.training.loop import total_loss
from rollingq_core.training.optimisation import sgd

SHAPES = {"audio": (1, 257, 188), "visual": (3, 224, 224)}
SAMPLES, STEPS = 2, 105  # in a step here, and steps of an epoch of CREMA-D at batches of 64
Row = tuple[str, str, str, float]


def measured_rows(repetitions: int = 5) -> list[Row]:
    """Return a step without and with RollingQ, and what it adds, measured by itself."""
    labels = torch.arange(SAMPLES)
    inputs = {name: torch.randn(SAMPLES, *shape) for name, shape in SHAPES.items()}
    split = PairedDataset(inputs, labels)
    data = DataSplits("random", split, split, split, tuple("abcdef"), None, "")

    def stepping(watched: bool):
        model = build_paper_model(data)
        optimizer = sgd(model.parameters(), PAPER.training)
        rolling = RollingQ(model.fusion, rho=3.0, beta=0.0, max_rotations=1)

        def step():
            output = model(inputs)
            optimizer.zero_grad()
            total_loss(output, labels).backward()
            optimizer.step()
            if watched:
                rolling.observe(output.fusion)
            return output.fusion

        if watched:
            step()
            rolling.end_epoch()  # from here on R is no identity
        return step, rolling

    (vanilla, _), (ours, rolling) = stepping(False), stepping(True)
    fusion = ours()

    def end():
        rolling.observe(fusion)
        rolling.module.count.zero_()
        rolling.end_epoch()

    plain, watched = (1e3 * value for value in interleaved_seconds(vanilla, ours, repetitions))
    with warnings.catch_warnings():
        # The same output is observed again after a turn, which it would warn of.
        warnings.simplefilter("ignore", UserWarning)
        observing, ending = interleaved_seconds(lambda: rolling.observe(fusion), end, 50)
    added = 1e3 * (observing + ending / STEPS)
    whole = f"{plain:.4g} ms"
    return [
        ("training step: vanilla, RollingQ", whole, f"{watched:.4g} ms", plain / watched),
        ("  what is added, timed by itself", whole, f"+{added:.3g} ms", plain / (plain + added)),
    ]
