"""How long a run will take, and how much memory: measured on a few steps before it starts."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rollingq_core._checks import require_integer
from rollingq_core._extras import needs
from rollingq_core.runs.description import RunDescription

with needs("train", "data"):
    from rollingq_core.data.dataset import DataSplits
    from rollingq_core.models.multimodal import MultimodalModel
    from rollingq_core.training.loop import total_loss
    from rollingq_core.training.machine import Machine
    from rollingq_core.training.optimisation import sgd


@dataclass(frozen=True)
class Estimate:
    """What a run will take, validation aside.

    Parameters
    ----------
    step_seconds, read_seconds
        One step on a batch that is at hand, and reading one batch by one process.
    steps, epochs
        Steps of an epoch, and epochs.
    workers
        Processes that read ahead.
    peak_gib
        Most memory of the GPU in use; None on a CPU.
    """

    step_seconds: float
    read_seconds: float
    steps: int
    epochs: int
    workers: int
    peak_gib: float | None

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch: the slower of stepping and reading ahead, or else both."""
        if self.workers == 0:
            return self.steps * (self.step_seconds + self.read_seconds)
        return self.steps * max(self.step_seconds, self.read_seconds / self.workers)

    def __str__(self) -> str:
        memory = "" if self.peak_gib is None else f", {self.peak_gib:.1f} GiB of the GPU's memory"
        return (
            f"{self.step_seconds:.2g} s a step, {self.read_seconds:.2g} s to read a batch, "
            f"{self.steps} steps an epoch, {self.epochs} epochs: about "
            f"{self.epochs * self.epoch_seconds / 3600:.2g} h{memory}"
        )


def estimate(
    run: RunDescription, machine: Machine, *, data: DataSplits | None = None, steps: int = 3
) -> Estimate:
    """Measure a few training steps of a run, which itself is not begun.

    Parameters
    ----------
    run
        What is to be trained.
    machine
        What on.
    data
        Its dataset, where that is loaded already.
    steps
        How many to measure, after one that warms up; the fastest counts.

    Raises
    ------
    ValueError
        ``steps`` is no integer of at least 1.
    """
    require_integer("steps", steps, at_least=1)
    data = run.load_data() if data is None else data
    training = run.setting.training
    size = min(training.batch_size, len(data.train))
    started = time.perf_counter()
    batch, labels = data.train.__getitems__(range(size))
    read_seconds = time.perf_counter() - started
    fabric = machine.start()
    prepared = run.prepare(data)
    model, optimizer = fabric.setup(prepared.model, sgd(prepared.model.parameters(), training))
    model.train()
    inputs = {name: fabric.to_device(values) for name, values in batch.items()}
    answers = fabric.to_device(labels)
    taken = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        for index, piece in enumerate(answers.chunk(machine.accumulate)):
            part = {name: x.chunk(machine.accumulate)[index] for name, x in inputs.items()}
            loss = total_loss(model(part, detach_probes=True), piece)
            fabric.backward(loss * (len(piece) / size))
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())  # which waits for the GPU
        taken.append(time.perf_counter() - started)
    on_gpu = fabric.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
    return Estimate(
        step_seconds=min(taken[1:]),
        read_seconds=read_seconds,
        steps=-(-len(data.train) // training.batch_size),
        epochs=training.epochs,
        workers=machine.workers,
        peak_gib=peak,
    )


def training_operations(model: MultimodalModel, inputs: Mapping[str, Tensor]) -> int:
    """Return how many floating-point operations a training step on these inputs takes.

    Those of matrix products and convolutions are counted, forward and backward; a multiplication
    and its addition are two.

    Parameters
    ----------
    model
        On the device of the inputs; on ``"meta"``, nothing is computed. Its gradients are cleared.
    inputs
        By modality, a batch ``[B, ...]``.
    """
    first = next(iter(inputs.values()))
    labels = torch.zeros(len(first), dtype=torch.int64, device=first.device)
    with FlopCounterMode(display=False) as counter:
        total_loss(model(dict(inputs), detach_probes=True), labels).backward()
    model.zero_grad()
    return counter.get_total_flops()
