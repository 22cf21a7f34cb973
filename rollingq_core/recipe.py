"""How to train: the optimiser, its schedule and their settings."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rollingq_core._checks import require_choice, require_integer, require_number

# What every generator of random numbers takes.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; the defaults are the paper's where it names them.

    Parameters
    ----------
    epochs
        Epochs of fusion training, in which the probes read detached features.
    pretrain_epochs
        Epochs before, in which each encoder learns through its own probe alone.
    batch_size, lr, momentum, weight_decay
        Batch size and SGD's settings.
    warmup_epochs
        Linear warm-up; then a cosine to 0 over all that remains of both stages, step by step.
    seed
        Seed of the data's order and of dropout.
    selection
        The epoch whose weights are kept: ``"best"`` on the validation split (accuracy, then loss)
        or the ``"last"``.

    Raises
    ------
    ValueError
        A number out of range, or one that is no integer where one counts.
    """

    epochs: int = 30
    pretrain_epochs: int = 0
    batch_size: int = 64
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 0.0
    seed: int = 0
    selection: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        # Plain numbers, as a checkpoint holds no others.
        for name, least in (("epochs", 1), ("pretrain_epochs", 0), ("batch_size", 1)):
            self._keep(name, require_integer(name, getattr(self, name), at_least=least))
        self._keep("seed", require_integer("seed", self.seed, at_least=0, at_most=LARGEST_SEED))
        self._keep("lr", require_number("lr", self.lr, above=0))
        for name in ("momentum", "weight_decay", "warmup_epochs"):
            self._keep(name, require_number(name, getattr(self, name), at_least=0))
        require_choice("selection", self.selection, ("best", "last"))

    def _keep(self, name: str, value: float) -> None:
        object.__setattr__(self, name, value)


def learning_rate_factor(step: int, total: int, warmup: int) -> float:
    """Return the factor on the learning rate: linear warm-up, then a cosine to 0 at ``total``."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def sgd(parameters: Iterable[Tensor], config: TrainingConfig) -> torch.optim.SGD:
    """Return the optimiser of ``config``."""
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        foreach=True,  # one call for all tensors, which a CPU would not choose by itself
    )


def cosine_schedule(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, samples: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the schedule of ``config``, step by step over both stages, for a training split."""
    steps = math.ceil(samples / config.batch_size)
    total = (config.pretrain_epochs + config.epochs) * steps
    warmup = int(config.warmup_epochs * steps)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, total, warmup)
    )
