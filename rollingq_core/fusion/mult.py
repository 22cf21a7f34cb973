"""MulT: a crossmodal Transformer for each ordered pair of modalities (Tsai et al. 2019)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from rollingq_core._checks import require_integer, require_number
from rollingq_core._padding import pooled
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.layers import (
    Attention,
    feed_forward,
    initialise,
    require_sizes,
    require_streams,
)
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.rotation import QueryRotation

Mask = Tensor | None


class CrossmodalLayer(nn.Module):
    """A pre-norm layer in which a target reads a source, and then a feed-forward part.

    The source goes through the *target's* layer norm, and stays what it was before the first layer.

    Parameters
    ----------
    dim, num_heads, dropout
        As in :class:`rollingq_core.fusion.layers.Attention`; dropout also after each part.
    """

    def __init__(self, dim: int, num_heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads, dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = feed_forward(dim, nn.ReLU, dropout)

    def forward(self, target: Tensor, source: Tensor, padded: Mask, hidden: Mask) -> Tensor:
        """Return the target ``[B, N, d]`` after reading a source ``[B, L, d]``.

        ``padded`` is ``[B, L]``, ``hidden`` is ``[N, L]``: True where a row must not look.
        """
        read = self.attention(self.norm1(target), self.norm1(source), padded, hidden)
        target = target + dropout(read, self.attention.dropout, self.training)
        return target + self.mlp(self.norm2(target))


class CrossmodalEncoder(nn.Module):
    """Layers in which a target reads a source, or itself, and a layer norm at the end.

    Parameters
    ----------
    dim, depth, num_heads, dropout
        Width, number of layers, and each layer's options.
    """

    def __init__(self, dim: int, depth: int, num_heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossmodalLayer(dim, num_heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        target: Tensor,
        source: Tensor | None = None,
        padding: tuple[Mask, Mask] = (None, None),
        *,
        causal: bool = True,
    ) -> Tensor:
        """Return the target ``[B, N, d]`` after all layers; without a source it reads itself.

        ``padding`` are the masks of target and source.
        """
        x = positioned(target, padding[0])
        y = None if source is None else positioned(source, padding[1])
        padded = padding[0] if source is None else padding[1]
        size = target.shape[1] if source is None else source.shape[1]
        hidden = causal_mask(target.shape[1], size, target.device) if causal else None
        for layer in self.layers:
            x = layer(x, x if y is None else y, padded, hidden)
        return self.norm(x)


class CrossmodalFusion(nn.Module):
    r"""MulT: each modality reads each other one, then itself; the last time steps are classified.

    For a target m and each source n, :math:`h^{m \leftarrow n}` are m's tokens after a crossmodal
    encoder. Side by side they are m's stream, of width (M - 1) d, which a *memory* encoder of
    self-attention reads. Its last time step stands for m, and a residual MLP over all m is
    classified.

    No attention in it chooses between modalities: a stream's keys are all of one modality. With
    ``joint``, the memory encoders give way to one attention layer whose class token reads all
    streams, and whose query can be turned. The paper does not say where RollingQ is attached to
    MulT; this is the book's reading.

    Parameters
    ----------
    dim, num_classes, modalities
        Token dimension d, number of classes C and number of modalities M.
    depth, memory
        Layers of each crossmodal and of each memory encoder.
    num_heads
        Heads, a divisor of ``dim``; the joint attention has one.
    joint
        Whether a class token reads all streams, in place of the memory encoders.
    causal
        Whether a row sees only what is not later than itself.
    cls_std
        Standard deviation of the joint attention's class token at the start.
    dropout
        On softmax rows, and after each part.

    Raises
    ------
    ValueError
        An option out of range. On calling: what attention fusion refuses, or another number of
        modalities.

    Examples
    --------
    >>> tokens = [torch.randn(2, 5, 8), torch.randn(2, 3, 8)]
    >>> CrossmodalFusion(8, 4)(tokens).share is None
    True
    >>> CrossmodalFusion(8, 4, joint=True)(tokens).share.shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        modalities: int = 2,
        depth: int = 1,
        memory: int = 1,
        num_heads: int = 1,
        *,
        joint: bool = False,
        causal: bool = True,
        cls_std: float = 0.02,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = require_sizes(dim, num_heads, num_classes, modalities)
        self.dim, num_classes, self.modalities = sizes
        depth = require_integer("depth", depth, at_least=1)
        memory = require_integer("memory", memory, at_least=1)
        self.dropout = require_number("dropout", dropout, at_least=0, at_most=1)
        self.causal = causal
        options: dict[str, Any] = {"num_heads": num_heads, "dropout": dropout}
        width = (modalities - 1) * dim  # of a stream
        self.crossmodal = nn.ModuleList(
            nn.ModuleList(CrossmodalEncoder(dim, depth, **options) for _ in range(modalities - 1))
            for _ in range(modalities)
        )
        self.joint = self.memory = None
        if joint:
            rates: dict[str, Any] = {"attention_dropout": dropout, "output_dropout": dropout}
            self.joint = AttentionFusion(width, num_classes, cls_std=cls_std, **rates)
        else:
            self.memory = nn.ModuleList(
                CrossmodalEncoder(width, memory, **options) for _ in range(modalities)
            )
            total = modalities * width
            self.proj1, self.proj2 = nn.Linear(total, total), nn.Linear(total, total)
            self.head = nn.Linear(total, num_classes)
        initialise(self)

    @classmethod
    def of_shape(cls, shape: FusionShape, **options: Any) -> "CrossmodalFusion":
        """Return a fusion for a model of this shape; ``options`` are further ones of it."""
        sizes = shape.dim, shape.num_classes, len(shape.modalities)
        return cls(*sizes, cls_std=shape.cls_std, dropout=shape.dropout, **options)

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
        like = self._any_weight
        masks = require_streams(tokens, key_padding_masks, self.modalities, like)
        streams = [self._stream(target, tokens, masks) for target in range(self.modalities)]
        if self.joint is not None:
            return self.joint(streams, masks)
        assert self.memory is not None  # as there is no joint attention
        last = []
        for encoder, stream, mask in zip(self.memory, streams, masks, strict=True):
            remembered = encoder(stream, padding=(mask, None), causal=self.causal)
            last.append(pooled(remembered, mask, "last"))
        read = torch.cat(last, dim=-1)  # [B, M (M - 1) d]
        hidden = dropout(self.proj1(read).relu(), self.dropout, self.training)
        fused = read + self.proj2(hidden)
        return FusionOutput(self.head(fused), fused)

    @property
    def _any_weight(self) -> Tensor:
        return self.crossmodal[0][0].norm.weight  # type: ignore[index,union-attr,return-value]

    def _stream(self, target: int, tokens: Sequence[Tensor], masks: Sequence[Mask]) -> Tensor:
        """Return a modality's tokens after reading each other one, ``[B, L_m, (M - 1) d]``."""
        sources = [m for m in range(self.modalities) if m != target]
        encoders = self.crossmodal[target]
        read = []
        for encoder, source in zip(encoders, sources, strict=True):  # type: ignore[call-overload]
            padding = masks[target], masks[source]
            read.append(encoder(tokens[target], tokens[source], padding, causal=self.causal))
        return torch.cat(read, dim=-1)


def causal_mask(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Return which keys each row must not see, ``[rows, columns]`` bool.

    With sequences of one length these are the later ones. With others the published code shifts
    the diagonal by the difference of the lengths: few keys are hidden from a shorter target, and
    none from a longer one.

    Examples
    --------
    >>> causal_mask(3, 5).nonzero().tolist()
    [[0, 3], [0, 4], [1, 4]]
    """
    ones = torch.ones(rows, columns, dtype=torch.bool, device=device)
    return ones.triu(1 + abs(columns - rows))


def sinusoidal_positions(length: int, dim: int) -> Tensor:
    """Return position vectors ``[1 + length, dim]``; row 0, of zeros, is that of padding.

    Sines fill the first half, cosines the second, of frequencies that fall from 1 to 1e-4.

    Examples
    --------
    >>> sinusoidal_positions(1, 4)[1]
    tensor([8.4147e-01, 1.0000e-04, 5.4030e-01, 1.0000e+00])
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float64) / max(half - 1, 1)
    angles = torch.arange(1 + length, dtype=torch.float64).unsqueeze(1) * 1e-4**steps
    table = torch.cat([angles.sin(), angles.cos(), angles.new_zeros(1 + length, dim % 2)], dim=1)
    table[0] = 0
    return table.float()


def positioned(tokens: Tensor, padded: Tensor | None) -> Tensor:
    r"""Return tokens ``[B, L, d]`` scaled by :math:`\sqrt d`, with their positions added."""
    length, dim = tokens.shape[1:]
    table = sinusoidal_positions(length, dim).to(tokens)
    if padded is None:
        return math.sqrt(dim) * tokens + table[1:]
    places = torch.arange(1, 1 + length, device=tokens.device).masked_fill(padded, 0)
    return math.sqrt(dim) * tokens + table[places]
