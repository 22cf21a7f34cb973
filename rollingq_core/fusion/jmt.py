"""JMT: cross-attention between modalities and a stream of all of them (Waligora et al. 2024)."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rollingq_core._checks import require_choice, require_number
from rollingq_core.fusion.layers import initialise, require_sizes, require_streams
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.fusion.shape import FusionShape


class JointFusion(nn.Module):
    r"""A joint stream beside the modalities' own, and cross-attention between all of them.

    .. math:: j = [z^1; \dots; z^M]\, W_J,\qquad
        \hat y = f\big(W [\,\mathrm{Attention}^t(z^t, z^s)\,]_{t \ne s}\big)

    Streams are set side by side feature by feature, so all must have one length: each is resampled
    to that of the longest tensor, padding left out. There is one attention layer for each *target*,
    whatever it reads. With two modalities the six readings stand in the order v from a, a from v,
    j from v, v from j, j from a, a from j. Attention stays inside one source, so none chooses
    between modalities.

    Parameters
    ----------
    dim, num_classes, modalities
        Token dimension d, number of classes C and number of modalities M.
    num_heads
        Heads, a divisor of ``dim``.
    pool
        What is classified: the ``"mean"`` of all positions, or the ``"first"``, an encoder's class
        token.
    dropout
        On softmax rows.

    Raises
    ------
    ValueError
        An option out of range. On calling: what attention fusion refuses, or another number of
        modalities.

    Examples
    --------
    >>> output = JointFusion(8, 4)([torch.randn(2, 5, 8), torch.randn(2, 3, 8)])
    >>> [*output.logits.shape], output.share
    ([2, 4], None)
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        modalities: int = 2,
        num_heads: int = 1,
        *,
        pool: Literal["mean", "first"] = "mean",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = require_sizes(dim, num_heads, num_classes, modalities)
        self.dim, num_classes, self.modalities = sizes
        require_choice("pool", pool, ("mean", "first"))
        require_number("dropout", dropout, at_least=0, at_most=1)
        self.pool = pool
        self.joint = nn.Linear(modalities * dim, dim)
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
            for _ in range(modalities + 1)
        )
        self.output = nn.Linear(len(self.readings) * dim, dim)
        self.head = nn.Linear(dim, num_classes)
        initialise(self)

    @classmethod
    def of_shape(cls, shape: FusionShape, **options: Any) -> "JointFusion":
        """Return a fusion for a model of this shape; ``options`` are further ones of it."""
        sizes = shape.dim, shape.num_classes, len(shape.modalities)
        return cls(*sizes, pool=shape.pool, dropout=shape.dropout, **options)

    @property
    def readings(self) -> list[tuple[int, int]]:
        """Who reads whom, as (target, source), in order; number M is the joint stream."""
        joint = self.modalities
        pairs = [reading for a, v in combinations(range(joint), 2) for reading in ((v, a), (a, v))]
        with_joint = [
            reading for m in reversed(range(joint)) for reading in ((joint, m), (m, joint))
        ]
        return pairs + with_joint

    def forward(
        self,
        tokens: Sequence[Tensor],
        key_padding_masks: Sequence[Tensor | None] | None = None,
    ) -> FusionOutput:
        """Fuse the tokens of M modalities, ``[B, L_m, d]`` each, masks as in attention fusion.

        A modality that a sample lacks counts as zeros.
        """
        like = self.head.weight
        masks = require_streams(tokens, key_padding_masks, self.modalities, like)
        length = max(z.shape[1] for z in tokens)
        pairs = zip(tokens, masks, strict=True)
        streams = [resampled(z, mask, length) for z, mask in pairs]
        streams.append(self.joint(torch.cat(streams, dim=-1)))
        # Nothing reads any row but those that are classified.
        rows = [z[:, :1] for z in streams] if self.pool == "first" else streams
        readings = torch.cat(
            [
                self.attention[target](rows[target], streams[s], streams[s], need_weights=False)[0]
                for target, s in self.readings
            ],
            dim=-1,
        )
        # The mean over positions and the linear map change places: it is the smaller work.
        fused = self.output(readings.mean(dim=1))
        return FusionOutput(self.head(fused), fused)


def resampled(tokens: Tensor, padded: Tensor | None, length: int) -> Tensor:
    """Return ``length`` tokens, linear between those there are, from the first to the last.

    Parameters
    ----------
    tokens, padded
        ``[B, L, d]``, and which are padding, ``[B, L]``; these are left out.
    length
        Number of tokens to return.

    Returns
    -------
    Tensor
        ``[B, length, d]``; zeros where a sample has no token.

    Examples
    --------
    >>> resampled(torch.tensor([[[0.0], [4.0]]]), None, 5).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    batch, count, _ = tokens.shape
    if padded is None and count == length:
        return tokens
    number = torch.full((batch, 1), count, device=tokens.device)
    if padded is not None:
        order = padded.to(torch.uint8).argsort(dim=1, stable=True)  # what is there comes first
        number = (~padded).sum(dim=1, keepdim=True)
        tokens = tokens.masked_fill(padded.unsqueeze(-1), 0)
        tokens = tokens.take_along_dim(order.unsqueeze(-1), dim=1)
    steps = torch.arange(length, device=tokens.device) / max(length - 1, 1)
    place = steps * (number - 1).clamp(min=0)  # [B, length]
    lower = place.floor().long()
    upper = (lower + 1).clamp(max=count - 1)
    part = (place - lower).unsqueeze(-1).to(tokens.dtype)
    low, high = (tokens.take_along_dim(at.unsqueeze(-1), dim=1) for at in (lower, upper))
    return low + part * (high - low)
