"""The optimiser and its schedule."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from rollingq_core.settings import TrainingConfig


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
