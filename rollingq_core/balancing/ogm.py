r"""OGM and OGM-GE: the better modality's encoder gets smaller gradients (Peng et al. 2022).

With the scores :math:`s^m = \sum_i \mathrm{softmax}(o^m_i)_{y_i}` of each modality's part of the
logits, and :math:`\rho^m` the score over the mean of the others',

.. math:: k^m = 1 - \tanh(\alpha \rho^m) \text{ where } \rho^m > 1, \text{ else } 1

multiplies the gradients of encoder m. GE adds normal noise as large as these were.
"""

from typing import Any

import torch
from torch import Tensor

from rollingq_core._checks import require_integer, require_number
from rollingq_core._ranks import summed
from rollingq_core.models.multimodal import ModelOutput, MultimodalModel
from rollingq_core.models.predictions import widened
from rollingq_core.training.observer import Observer


@torch.no_grad()
def scores(partial_logits: Tensor, labels: Tensor) -> Tensor:
    """Return how well each modality's part of the logits knows the labels, ``[M]``.

    ``partial_logits`` are ``[M, B, C]``, ``labels`` ``[B]``. Sums over the batch.

    Examples
    --------
    >>> audio, visual = [[2.0, 0, 0], [0, 1, 0]], [[0.0, 0, 0], [0, 0, 1]]
    >>> scores(torch.tensor([audio, visual]), torch.tensor([0, 1]))
    tensor([1.3631, 0.5453])
    """
    right = widened(partial_logits).softmax(dim=-1)[:, torch.arange(len(labels)), labels]
    return right.sum(dim=1)


def coefficients(scores: Tensor, alpha: float) -> Tensor:
    """Return the factors k on the gradients of each modality's encoder, ``[M]``, in (0, 1].

    A modality's score is compared with the mean of the others', which for two is the published
    ratio.

    Examples
    --------
    >>> coefficients(torch.tensor([1.363103, 0.545275]), alpha=0.3)
    tensor([0.3649, 1.0000])
    """
    others = (scores.sum() - scores) / (len(scores) - 1)
    ratio = scores / others.clamp(min=torch.finfo(scores.dtype).tiny)
    return torch.where(ratio > 1, 1 - torch.tanh(alpha * ratio), torch.ones_like(ratio))


class OGM(Observer):
    """On-the-fly gradient modulation of a concatenation, or another sum of the modalities' parts.

    Each weight of an encoder with two or more axes is modulated. (The published code modulates
    those with four, which a transformer hardly has.)

    Parameters
    ----------
    model
        Its fusion tells each modality's ``partial_logits``.
    alpha
        Strength of the modulation, above 0.
    noise
        Whether noise is added, of the standard deviation of each unmodulated gradient, also where
        k is 1 (OGM-GE).
    seed
        Seed of the noise.

    Raises
    ------
    ValueError
        An option out of range, or a fusion without ``partial_logits`` or with one modality.
    """

    def __init__(
        self, model: MultimodalModel, alpha: float = 0.3, *, noise: bool = False, seed: int = 0
    ) -> None:
        if not hasattr(model.fusion, "partial_logits") or len(model.modalities) < 2:
            raise ValueError(
                f"model: got {type(model.fusion).__name__} of {len(model.modalities)} modalities, "
                "expected a fusion with partial_logits of two or more"
            )
        self.alpha, self.noise = require_number("alpha", alpha, above=0), noise
        seed = require_integer("seed", seed, at_least=0, at_most=2**64 - 1)
        self.seed, self.generator = seed, torch.Generator().manual_seed(seed)
        self.name = "ogm-ge" if noise else "ogm"
        self.sums: dict[str, float] = {}
        self.steps = 0

    def start(self, model: MultimodalModel, train: Any) -> None:
        """Begin the noise anew."""
        self.generator.manual_seed(self.seed)

    @torch.no_grad()
    def on_gradients(self, model: MultimodalModel, output: ModelOutput, labels: Tensor) -> None:
        """Multiply each encoder's gradients by its coefficient, and add noise where asked to."""
        assert output.fusion is not None  # as observers act in the epochs of fusion
        layer: Any = model.fusion
        evidence = scores(layer.partial_logits(output.fusion.fused), labels)
        factors = coefficients(summed({"scores": evidence.double()})["scores"], self.alpha)
        for (name, encoder), factor in zip(model.encoders.items(), factors.tolist(), strict=True):
            self.sums[name] = self.sums.get(name, 0.0) + factor
            for weight in encoder.parameters():
                if weight.grad is not None and weight.dim() >= 2:
                    self._modulate(weight.grad, factor)
        self.steps += 1

    def _modulate(self, gradient: Tensor, factor: float) -> None:
        size = float(gradient.std(correction=int(gradient.numel() > 1))) + 1e-8
        gradient.mul_(factor)
        if self.noise:
            drawn = torch.randn(gradient.shape, generator=self.generator)
            gradient.add_(drawn.to(gradient), alpha=size)

    def end_epoch(self, model: MultimodalModel, train: Any) -> dict[str, Any]:
        """Return the epoch's mean coefficients, by modality."""
        means = {name: value / max(1, self.steps) for name, value in self.sums.items()}
        self.sums, self.steps = {}, 0
        return {"modulation": means}

    @property
    def identity(self) -> dict[str, Any]:
        """The strength, and whether there is noise."""
        return {"alpha": self.alpha, "noise": self.noise}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the noise."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.generator.set_state(state["generator"].cpu())
