"""What an epoch of training adds up to: loss, accuracy, attention shares and gradient norms."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rollingq_core._ranks import summed
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import widened


def gradient_norms(model: MultimodalModel) -> Tensor:
    """Return the gradient norm of each modality's encoder, ``[M]``."""
    like = next(model.parameters())
    norms = []
    for encoder in model.encoders.values():
        gradients = [widened(p.grad) for p in encoder.parameters() if p.grad is not None]
        # Of no gradients, the norm would be a zero on the CPU, wherever the others are.
        norms.append(nn.utils.get_total_norm(gradients).to(like.device))
    return torch.stack(norms)


@torch.no_grad()
def batch_sums(
    norms: Tensor, fusion: FusionOutput | None, labels: Tensor, loss: Tensor
) -> dict[str, Tensor]:
    """Return what one batch adds to :class:`Meters`."""
    if fusion is None:
        return {"loss": len(labels) * loss, "gradient_norm": norms}
    sums = {
        "loss": len(labels) * cross_entropy(fusion.logits, labels),
        "gradient_norm": norms,
        "right": (fusion.logits.argmax(dim=1) == labels).sum(),
    }
    if fusion.share is not None:
        sums["share"] = fusion.share.sum(dim=0)
    return sums


def require_finite_in(name: str, value: float, epoch: int) -> None:
    """Raise ``ValueError`` when a number of an epoch is not finite: training has diverged."""
    if not math.isfinite(value):
        raise ValueError(f"{name}: got {value} in epoch {epoch}, expected finite")


class Meters:
    """Sums over one epoch, kept on the device and read once at its end, over all processes."""

    def __init__(self, modalities: Sequence[str]) -> None:
        self.modalities = modalities
        self.samples = self.steps = 0
        self.sums: dict[str, Tensor] = {}

    def update(self, sums: dict[str, Tensor], size: int) -> None:
        """Add :func:`batch_sums` of a batch of ``size`` samples."""
        self.samples, self.steps = self.samples + size, self.steps + 1
        self.sums = {name: self.sums.get(name, 0) + value for name, value in sums.items()}

    def compute(self, epoch: int) -> dict[str, Any]:
        """Return the epoch's means; one that is not finite raises a ``ValueError``."""
        # Each process has the gradients of all already.
        own = {name: value for name, value in self.sums.items() if name != "gradient_norm"}
        sums = summed(own | {"samples": torch.tensor(self.samples)})
        samples = int(sums["samples"])
        loss = float(sums["loss"]) / samples
        require_finite_in("loss", loss, epoch)
        norms = self._by_modality(self.sums["gradient_norm"], self.steps)
        require_finite_in("gradient_norm", sum(norms.values()), epoch)
        record = {"train_loss": loss, "gradient_norm": norms}
        if "right" in sums:
            record["train_accuracy"] = float(sums["right"]) / samples
        if "share" in sums:
            record["share"] = self._by_modality(sums["share"], samples)
        return record

    def _by_modality(self, total: Tensor, count: int) -> dict[str, float]:
        return dict(zip(self.modalities, (total / count).tolist(), strict=True))
