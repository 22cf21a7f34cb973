"""Attention fusion that trains with whole modalities left out: the plain rival of rebalancing."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rollingq_core._checks import require_number
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.output import FusionOutput


class ModalityDropout(AttentionFusion):
    """Attention fusion in which, while training, some samples lack one of their modalities.

    Parameters
    ----------
    rate
        Part of the samples that lack one, in [0, 1]; which one is drawn anew, each being as likely.
        A sample keeps what it has only one of.
    *sizes, **options
        Those of :class:`rollingq_core.fusion.AttentionFusion`.

    Raises
    ------
    ValueError
        A rate out of range, and what attention fusion refuses.

    Examples
    --------
    >>> layer = ModalityDropout(8, 4, rate=1.0)
    >>> output = layer([torch.randn(2, 5, 8), torch.randn(2, 3, 8)])
    >>> (output.share == 0).sum(dim=1)  # of two modalities one is left out
    tensor([1, 1])
    """

    def __init__(self, *sizes: int, rate: float = 0.3, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.rate = require_number("rate", rate, at_least=0, at_most=1)

    def forward(
        self,
        tokens: Sequence[Tensor],
        key_padding_masks: Sequence[Tensor | None] | None = None,
    ) -> FusionOutput:
        """Fuse the tokens of M modalities, as in attention fusion."""
        if self.training and self.rate:
            key_padding_masks = self._drop(tokens, key_padding_masks)
        return super().forward(tokens, key_padding_masks)

    def _drop(
        self, tokens: Sequence[Tensor], masks: Sequence[Tensor | None] | None
    ) -> list[Tensor]:
        """Return the masks with one modality of some samples gone."""
        given = masks or [None] * len(tokens)
        full = [
            torch.zeros(z.shape[:2], dtype=torch.bool, device=z.device) if mask is None else mask
            for z, mask in zip(tokens, given, strict=True)
        ]
        has = torch.stack([~mask.all(dim=1) for mask in full], dim=1)  # [B, M]
        # Drawn on the CPU, so that a seed means the same on each device.
        chosen = torch.randint(len(full), (len(has),)).to(has.device)
        gone = (torch.rand(len(has)) < self.rate).to(has.device) & (has.sum(dim=1) > 1)
        return [mask | (gone & (chosen == m))[:, None] for m, mask in enumerate(full)]
