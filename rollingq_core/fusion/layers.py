"""What deeper fusions are built of: attention between two sequences, and a Transformer block."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from rollingq_core._checks import require_integer, require_number, require_tokens


class Attention(nn.Module):
    r"""Attention of some tokens over others, every row of it.

    .. math:: \mathrm{softmax}\!\left(x W_Q\,(s W_K)^\top / \sqrt{d_h}\right) s W_V\, W_O

    A row that sees no token at all reads zeros, where a softmax over nothing would give NaN.

    Parameters
    ----------
    dim, num_heads
        Token dimension d and number of heads, a divisor of it.
    dropout
        Of the softmax rows.

    Raises
    ------
    ValueError
        A size out of range, or heads that do not divide the width.

    Examples
    --------
    >>> layer = Attention(8)
    >>> layer(torch.randn(2, 3, 8), torch.randn(2, 5, 8)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(self, dim: int, num_heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        dim, self.num_heads = require_heads(dim, num_heads)
        self.dropout = require_number("dropout", dropout, at_least=0, at_most=1)
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(
        self,
        rows: Tensor,
        source: Tensor,
        padded: Tensor | None = None,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """Return what the rows ``[B, N, d]`` read of a source ``[B, L, d]``.

        ``padded`` is ``[B, L]`` bool, True where the source is padding; ``hidden`` is ``[N, L]``
        bool, True where a row must not look.
        """
        query, key, value = self.q_proj(rows), self.k_proj(source), self.v_proj(source)
        read = attend(query, key, value, self.num_heads, seen(padded, hidden), self._rate)
        return self.out_proj(read)

    @property
    def _rate(self) -> float:
        return self.dropout if self.training else 0.0


def require_heads(dim: int, num_heads: int) -> tuple[int, int]:
    """Return both when the number of heads divides the width."""
    dim = require_integer("dim", dim, at_least=2)
    num_heads = require_integer("num_heads", num_heads, at_least=1)
    if dim % num_heads:
        raise ValueError(f"num_heads: got {num_heads}, expected a divisor of dim {dim}")
    return dim, num_heads


def require_sizes(
    dim: int, num_heads: int, num_classes: int, modalities: int
) -> tuple[int, int, int]:
    """Return width, number of classes and number of modalities when a fusion can have them."""
    dim, _ = require_heads(dim, num_heads)
    num_classes = require_integer("num_classes", num_classes, at_least=1)
    return dim, num_classes, require_integer("modalities", modalities, at_least=2)


def require_streams(
    tokens: Sequence[Tensor],
    masks: Sequence[Tensor | None] | None,
    modalities: int,
    like: Tensor,
) -> list[Tensor | None]:
    """Return a mask or None for each modality, where tokens and masks are those of a fusion.

    ``like`` is a tensor of the tokens' width.
    """
    require_tokens(tokens, masks, like=like)
    if len(tokens) != modalities:
        raise ValueError(f"tokens: got {len(tokens)} modalities, expected {modalities}")
    return list(masks or [None] * modalities)


def seen(padded: Tensor | None, hidden: Tensor | None = None) -> Tensor | None:
    """Return which tokens a row sees, ``[B or 1, 1, N or 1, L]`` bool; None where it sees all."""
    unseen = None if padded is None else padded[:, None, None]
    if hidden is not None:
        unseen = hidden if unseen is None else unseen | hidden
        unseen = unseen.view(-1, 1, *unseen.shape[-2:])
    return None if unseen is None else ~unseen


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    visible: Tensor | None = None,
    rate: float = 0.0,
    weights: nn.Module | None = None,
) -> Tensor:
    """Return scaled dot-product attention of all heads side by side, ``[B, N, d]``.

    ``query`` is ``[B, N, d]``, ``key`` and ``value`` ``[B, L, d]``; ``visible`` is what
    :func:`seen` returns, and ``rate`` that of dropout. Where something hooks into the module
    ``weights``, the softmax rows ``[B, H, N, L]`` are formed, and pass through it.
    """
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    if weights is not None and weights._forward_hooks:
        logits = q @ k.mT / math.sqrt(q.shape[-1])
        if visible is not None:
            logits = logits.masked_fill(~visible, -math.inf)
        rows = dropout(weights(logits.softmax(dim=-1)), rate)
        return (rows @ v).transpose(1, 2).flatten(2)
    if visible is None:
        return scaled_dot_product_attention(q, k, v, dropout_p=rate).transpose(1, 2).flatten(2)
    some = visible.any(dim=-1, keepdim=True)
    # Rows that see nothing look at everything instead, so that no NaN is made, and then read zeros.
    read = scaled_dot_product_attention(q, k, v, attn_mask=visible | ~some, dropout_p=rate)
    return read.masked_fill(~some, 0).transpose(1, 2).flatten(2)


def feed_forward(
    dim: int, activation: type[nn.Module] = nn.GELU, dropout: float = 0.0
) -> nn.Sequential:
    """Return the feed-forward part of a Transformer block: d to 4d to d."""
    wide = nn.Linear(dim, 4 * dim), activation(), nn.Dropout(dropout)
    return nn.Sequential(*wide, nn.Linear(4 * dim, dim), nn.Dropout(dropout))


class Block(nn.Module):
    """A pre-norm Transformer block, as in ViT: self-attention, then feed-forward.

    Parameters
    ----------
    dim, num_heads, dropout
        As in :class:`Attention`; dropout also after each part.
    """

    def __init__(self, dim: int, num_heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, num_heads, dropout)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = feed_forward(dim, nn.GELU, dropout)

    def forward(self, tokens: Tensor, padded: Tensor | None = None) -> Tensor:
        """Return the tokens ``[B, L, d]`` after the block; ``padded`` is ``[B, L]``."""
        normed = self.norm1(tokens)
        read = self.attention(normed, normed, padded)
        tokens = tokens + dropout(read, self.attention.dropout, self.training)
        return tokens + self.mlp(self.norm2(tokens))


def initialise(module: nn.Module) -> None:
    """Draw the linear maps of a module as the published code does: Xavier normal, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def side_by_side(masks: list[Tensor | None], tokens: list[Tensor]) -> Tensor | None:
    """Return the masks of several sequences as one, ``[B, sum L]``; None where no one has any."""
    if all(mask is None for mask in masks):
        return None
    pairs = zip(masks, tokens, strict=True)
    whole = [torch.zeros_like(z[..., 0], dtype=torch.bool) if m is None else m for m, z in pairs]
    return torch.cat(whole, dim=1)
