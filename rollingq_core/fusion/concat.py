"""Static fusion: the modalities' features side by side, and a linear classifier."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rollingq_core._checks import require_choice, require_integer, require_tokens
from rollingq_core._padding import pooled
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.fusion.shape import FusionShape


class ConcatFusion(nn.Module):
    r"""Concatenation of one feature vector a modality: the weights of the fusion are fixed.

    .. math:: \mathrm{logits} = W\,[f^1; \dots; f^M] + b

    With one modality it is that modality's own classifier (the unimodal baseline).

    Parameters
    ----------
    dim, num_classes, modalities
        Token dimension d, number of classes C and number of modalities M.
    pool
        What stands for a modality: the ``"mean"`` of its tokens, or the ``"first"``, each among
        those that are no padding; zeros where there is none.

    Raises
    ------
    ValueError
        An option out of range. On calling: tokens of wrong type, rank, size or value, another
        number of modalities, or a mask that does not fit.

    Examples
    --------
    >>> layer = ConcatFusion(2, 3, modalities=2)
    >>> output = layer([torch.ones(4, 5, 2), torch.ones(4, 1, 2)])
    >>> [*output.logits.shape], [*output.fused.shape], output.share
    ([4, 3], [4, 4], None)
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        modalities: int = 2,
        pool: Literal["mean", "first"] = "mean",
    ) -> None:
        super().__init__()
        self.dim = require_integer("dim", dim, at_least=1)
        num_classes = require_integer("num_classes", num_classes, at_least=1)
        self.modalities = require_integer("modalities", modalities, at_least=1)
        require_choice("pool", pool, ("mean", "first"))
        self.pool = pool
        self.head = nn.Linear(modalities * dim, num_classes)

    @classmethod
    def of_shape(cls, shape: FusionShape) -> "ConcatFusion":
        """Return a layer for a model of this shape."""
        return cls(shape.dim, shape.num_classes, len(shape.modalities), shape.pool)

    def forward(
        self,
        tokens: Sequence[Tensor],
        key_padding_masks: Sequence[Tensor | None] | None = None,
    ) -> FusionOutput:
        """Fuse the tokens of M modalities, ``[B, L_m, d]`` each, masks as in attention fusion."""
        require_tokens(tokens, key_padding_masks, like=self.head.weight[:, : self.dim], static=True)
        if len(tokens) != self.modalities:
            raise ValueError(f"tokens: got {len(tokens)} modalities, expected {self.modalities}")
        masks = key_padding_masks or [None] * len(tokens)
        features = [pooled(z, mask, self.pool) for z, mask in zip(tokens, masks, strict=True)]
        fused = torch.cat(features, dim=-1)  # [B, M d]
        return FusionOutput(self.head(fused), fused)

    def partial_logits(self, fused: Tensor) -> Tensor:
        """Return what each modality adds to the logits, ``[M, B, C]``; each has b / M.

        They add up to the logits of ``fused`` [B, M d].
        """
        # Training in half precision hands out features that are wider than the weights.
        weights = self.head.weight.to(fused).split(self.dim, dim=1)
        features = fused.split(self.dim, dim=-1)
        logits = [f @ w.mT for f, w in zip(features, weights, strict=True)]
        return torch.stack(logits) + self.head.bias.to(fused) / self.modalities
