"""Training: one loop, its machine, and the observers that methods are."""

from rollingq_core._extras import needs

with needs("train"):
    from rollingq_core.training.checkpoint import load_checkpoint, save_checkpoint
    from rollingq_core.training.loop import TrainingResult, fit, total_loss
    from rollingq_core.training.machine import Machine
    from rollingq_core.training.observer import Observer

__all__ = [
    "Machine",
    "Observer",
    "TrainingResult",
    "fit",
    "load_checkpoint",
    "save_checkpoint",
    "total_loss",
]
