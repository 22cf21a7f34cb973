"""MMML: cross-attention between streams, then attention of their class tokens (Wu et al. 2024)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rollingq_core._checks import require_choice, require_number
from rollingq_core._padding import pooled
from rollingq_core.fusion.class_token import ClassTokenAttention
from rollingq_core.fusion.layers import (
    Attention,
    feed_forward,
    initialise,
    require_sizes,
    require_streams,
    side_by_side,
)
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.rotation import QueryRotation

Mask = Tensor | None


class PostNorm(nn.Module):
    """A residual connection and the layer norm after it: ``LN(x + dropout(read))``."""

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, read: Tensor) -> Tensor:
        """Return the sum of both, normed."""
        return self.norm(x + self.dropout(read))


class CrossStreamFusion(nn.Module):
    r"""MMML: streams read each other, then each class token reads its stream; an MLP classifies.

    Every stream m has a class token before its tokens. It first reads the other streams as they
    came in, then itself, then comes the feed-forward part; after each there is a residual sum and a
    layer norm. The class tokens side by side go through an MLP, d M to d to d / 2 to C.

    The last attention has keys of one stream alone. With ``joint``, one class token, the mean of
    the streams', reads all streams at once, and its query can be turned. A stream's class token is
    one of its keys, so that ``attention`` is that much longer. The paper does not say where
    RollingQ is attached to MMML; this is the book's reading.

    Parameters
    ----------
    dim, num_classes, modalities
        Token dimension d, number of classes C and number of modalities M.
    num_heads
        Heads of attention between streams, a divisor of ``dim``; the joint attention has one.
    joint
        Whether one class token reads all streams in the end.
    pool
        Which class token a stream has: its ``"first"`` token, where encoders make one; a learned
        one before the tokens where the modality's vector is their ``"mean"``.
    cls_std
        Standard deviation of learned class tokens at the start.
    dropout
        On softmax rows, and before each sum.

    Raises
    ------
    ValueError
        An option out of range. On calling: what attention fusion refuses, or another number of
        modalities.

    Examples
    --------
    >>> tokens = [torch.randn(2, 5, 8), torch.randn(2, 3, 8)]
    >>> CrossStreamFusion(8, 4)(tokens).share is None
    True
    >>> CrossStreamFusion(8, 4, joint=True)(tokens).share.shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        modalities: int = 2,
        num_heads: int = 1,
        *,
        joint: bool = False,
        pool: Literal["mean", "first"] = "mean",
        cls_std: float = 0.02,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = require_sizes(dim, num_heads, num_classes, modalities)
        self.dim, num_classes, self.modalities = sizes
        require_choice("pool", pool, ("mean", "first"))
        require_number("cls_std", cls_std, above=0)
        require_number("dropout", dropout, at_least=0, at_most=1)
        count = 1 if joint else modalities  # of class tokens in the end
        self.cross = nn.ModuleList(Attention(dim, num_heads, dropout) for _ in range(modalities))
        self.crossed = nn.ModuleList(PostNorm(dim, dropout) for _ in range(modalities))
        self.joint = self.own = None
        if joint:
            self.joint = ClassTokenAttention(dim, self_key=False, dropout=dropout)
        else:
            self.own = nn.ModuleList(Attention(dim, num_heads, dropout) for _ in range(modalities))
        self.attended = nn.ModuleList(PostNorm(dim, dropout) for _ in range(count))
        self.mlps = nn.ModuleList(feed_forward(dim, nn.ReLU, dropout) for _ in range(count))
        self.fed = nn.ModuleList(PostNorm(dim) for _ in range(count))
        widths = count * dim, dim, dim // 2
        self.hidden = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(widths[0], widths[1]),
            nn.ReLU(),
            nn.Linear(widths[1], widths[2]),
            nn.ReLU(),
        )
        self.head = nn.Linear(widths[2], num_classes)
        self.cls = None
        if pool == "mean":
            self.cls = nn.Parameter(torch.empty(modalities, 1, 1, dim))
            nn.init.trunc_normal_(self.cls, std=cls_std, a=-2 * cls_std, b=2 * cls_std)
        initialise(self)

    @classmethod
    def of_shape(cls, shape: FusionShape, **options: Any) -> "CrossStreamFusion":
        """Return a fusion for a model of this shape; ``options`` are further ones of it."""
        sizes = shape.dim, shape.num_classes, len(shape.modalities)
        options = {"pool": shape.pool, "cls_std": shape.cls_std, **options}
        return cls(*sizes, dropout=shape.dropout, **options)

    @property
    def rotation(self) -> QueryRotation | None:
        """The joint attention's rotation, where there is one."""
        return None if self.joint is None else self.joint.rotation

    def forward(
        self,
        tokens: Sequence[Tensor],
        key_padding_masks: Sequence[Tensor | None] | None = None,
    ) -> FusionOutput:
        """Fuse the tokens of M modalities, ``[B, L_m, d]`` each, masks as in attention fusion."""
        like = self.head.weight[:, :1].expand(-1, self.dim)
        masks = require_streams(tokens, key_padding_masks, self.modalities, like)
        streams, masks = self._with_class_tokens(list(tokens), masks)
        streams = self._crossed(streams, masks)
        pairs = zip(streams, masks, strict=True)
        before = [pooled(z, mask, "first") for z, mask in pairs]  # class tokens, [B, d] each
        output = None
        if self.joint is None:
            assert self.own is not None
            triples = zip(self.own, streams, masks, strict=True)
            read = [
                attention(x.unsqueeze(1), z, mask)[:, 0]
                for x, (attention, z, mask) in zip(before, triples, strict=True)
            ]
        else:
            before = [torch.stack(before).mean(dim=0)]
            padded = side_by_side(masks, streams)
            output = self.joint.attend(before[0].unsqueeze(1), streams, padded)
            read = [output.fused]
        after = [norm(x, r) for norm, x, r in zip(self.attended, before, read, strict=True)]
        fed = [norm(x, mlp(x)) for norm, mlp, x in zip(self.fed, self.mlps, after, strict=True)]
        fused = torch.cat(fed, dim=-1)  # [B, M d], or [B, d]
        logits = self.head(self.hidden(fused))
        if output is None:
            return FusionOutput(logits, fused)
        return output._replace(logits=logits, fused=fused)

    def _with_class_tokens(
        self, tokens: list[Tensor], masks: list[Mask]
    ) -> tuple[list[Tensor], list[Mask]]:
        """Return streams that each begin with a class token, and their masks."""
        if self.cls is None:
            return tokens, masks
        batch = len(tokens[0])
        pairs = zip(self.cls, tokens, strict=True)
        streams = [torch.cat([cls.expand(batch, -1, -1), z], dim=1) for cls, z in pairs]
        return streams, [None if mask is None else pad(mask, (1, 0)) for mask in masks]

    def _crossed(self, streams: list[Tensor], masks: list[Mask]) -> list[Tensor]:
        """Return each stream after it has read the others, as they came in."""
        crossed = []
        for target, (attention, norm) in enumerate(zip(self.cross, self.crossed, strict=True)):
            others = [m for m in range(self.modalities) if m != target]
            sources = [streams[m] for m in others]
            padded = side_by_side([masks[m] for m in others], sources)
            read = attention(streams[target], torch.cat(sources, dim=1), padded)
            crossed.append(norm(streams[target], read))
        return crossed
