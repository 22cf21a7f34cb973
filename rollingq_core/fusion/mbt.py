"""MBT: modalities that see each other only through bottleneck tokens (Nagrani et al. 2021)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rollingq_core._checks import require_choice, require_integer, require_number
from rollingq_core._padding import pooled
from rollingq_core.fusion.layers import Block, initialise, require_sizes, require_streams
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.fusion.shape import FusionShape


class BottleneckFusion(nn.Module):
    r"""Each modality has Transformer blocks of its own; a few shared tokens go through all of them.

    .. math:: [z^m; \hat z^m_{fsn}] = \mathrm{Block}^m_\ell([z^m; z_{fsn}]),\quad
        z_{fsn} \leftarrow \tfrac{1}{M} \sum_m \hat z^m_{fsn}

    After the last block each modality has a layer norm, and the mean of the modalities' vectors is
    classified. The blocks go on where those of the encoders end. No token attends to more than its
    own modality and the bottlenecks, so there is no attention to share between modalities.

    Parameters
    ----------
    dim, num_classes, modalities
        Token dimension d, number of classes C and number of modalities M.
    depth, bottlenecks
        Number of blocks of each modality and of bottleneck tokens. The defaults give the paper's
        cost (its Table 4).
    num_heads
        Heads of each block, a divisor of ``dim``.
    pool
        What stands for a modality: the ``"mean"`` of its tokens, or the ``"first"``.
    dropout
        On softmax rows, and after each attention and feed-forward part.

    Raises
    ------
    ValueError
        An option out of range. On calling: what attention fusion refuses, or another number of
        modalities.

    Examples
    --------
    >>> output = BottleneckFusion(8, 4)([torch.randn(2, 5, 8), torch.randn(2, 3, 8)])
    >>> [*output.logits.shape], output.share
    ([2, 4], None)
    """

    # The layer norm at the end is the encoders'.
    continues_encoders = True

    def __init__(
        self,
        dim: int,
        num_classes: int,
        modalities: int = 2,
        depth: int = 4,
        bottlenecks: int = 2,
        num_heads: int = 1,
        *,
        pool: Literal["mean", "first"] = "mean",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = require_sizes(dim, num_heads, num_classes, modalities)
        self.dim, num_classes, self.modalities = sizes
        depth = require_integer("depth", depth, at_least=1)
        bottlenecks = require_integer("bottlenecks", bottlenecks, at_least=0)
        require_choice("pool", pool, ("mean", "first"))
        require_number("dropout", dropout, at_least=0, at_most=1)
        self.pool = pool
        self.bottlenecks = nn.Parameter(torch.empty(1, bottlenecks, dim))
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(dim, num_heads, dropout) for _ in range(modalities))
            for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-6) for _ in range(modalities))
        self.head = nn.Linear(dim, num_classes)
        nn.init.normal_(self.bottlenecks, std=0.02)
        initialise(self)

    @classmethod
    def of_shape(cls, shape: FusionShape, **options: Any) -> "BottleneckFusion":
        """Return a fusion for a model of this shape; ``options`` are further ones of it."""
        sizes = shape.dim, shape.num_classes, len(shape.modalities)
        return cls(*sizes, pool=shape.pool, dropout=shape.dropout, **options)

    def forward(
        self,
        tokens: Sequence[Tensor],
        key_padding_masks: Sequence[Tensor | None] | None = None,
    ) -> FusionOutput:
        """Fuse the tokens of M modalities, ``[B, L_m, d]`` each, masks as in attention fusion."""
        fused = self.vectors(tokens, key_padding_masks).mean(dim=1)  # [B, d]
        return FusionOutput(self.head(fused), fused)

    def vectors(
        self,
        tokens: Sequence[Tensor],
        key_padding_masks: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Return the vector of each modality after all blocks, ``[B, M, d]``."""
        like = self.bottlenecks
        masks = require_streams(tokens, key_padding_masks, self.modalities, like)
        count = self.bottlenecks.shape[1]
        seen = [None if mask is None else pad(mask, (count, 0)) for mask in masks]
        shared = self.bottlenecks.expand(len(tokens[0]), -1, -1)
        streams = list(tokens)
        for layer in self.blocks:
            rows = [torch.cat([shared, z], dim=1) for z in streams]
            rows = [
                block(own, mask)
                for block, own, mask in zip(layer, rows, seen, strict=True)  # type: ignore[call-overload]
            ]
            shared = mean_bottlenecks([own[:, :count] for own in rows])
            streams = [own[:, count:] for own in rows]
        normed = [norm(z) for norm, z in zip(self.norms, streams, strict=True)]
        pairs = zip(normed, masks, strict=True)
        return torch.stack([pooled(z, mask, self.pool) for z, mask in pairs], dim=1)


def mean_bottlenecks(after: Sequence[Tensor]) -> Tensor:
    """Return what the modalities share next: the mean of what each made of the bottlenecks.

    Examples
    --------
    >>> audio, visual = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    >>> mean_bottlenecks([audio, visual])
    tensor([[2., 1.]])
    """
    return torch.stack(list(after)).mean(dim=0)
