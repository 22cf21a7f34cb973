"""Plain transcriptions of the paper and its code: what the benchmarks and tests compare with."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rollingq_core import FusionOutput


class PlainAttentionFusion(nn.Module):
    """Self-attention over ``[cls | tokens]`` in full, of which only the class token's row is used.

    Parameters have the names and shapes of ``AttentionFusion``. ``rotation`` is R itself.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        num_heads: int = 1,
        *,
        bias: bool = True,
        output_projection: bool = True,
        cls_self_key: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads, self.cls_self_key = num_heads, cls_self_key
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.q_proj = nn.Linear(dim, dim, bias=bias)
        self.k_proj = nn.Linear(dim, dim, bias=bias)
        self.v_proj = nn.Linear(dim, dim, bias=bias)
        self.out_proj = nn.Linear(dim, dim, bias=bias) if output_projection else nn.Identity()
        self.head = nn.Linear(dim, num_classes)
        self.register_buffer("rotation", torch.eye(dim))

    def forward(
        self,
        tokens: Sequence[Tensor],
        key_padding_masks: Sequence[Tensor | None] | None = None,
        kept: Tensor | None = None,
    ) -> FusionOutput:
        """Fuse; ``kept`` [B, H, 1 + sum L] multiplies the class token's row, as dropout does."""
        batch, dim = len(tokens[0]), self.cls.shape[-1]
        sequence = torch.cat([self.cls.expand(batch, -1, -1), *tokens], dim=1)
        masks = [None] * len(tokens) if key_padding_masks is None else key_padding_masks
        hidden = [torch.full((batch, 1), not self.cls_self_key)]
        for z, mask in zip(tokens, masks, strict=True):
            hidden.append(torch.zeros(z.shape[:2], dtype=torch.bool) if mask is None else mask)

        query, key, value = self.q_proj(sequence), self.k_proj(sequence), self.v_proj(sequence)
        query = torch.cat([query[:, :1] @ self.rotation, query[:, 1:]], dim=1)
        logits = self._heads(query) @ self._heads(key).mT / math.sqrt(dim // self.num_heads)
        logits = logits.masked_fill(torch.cat(hidden, dim=1)[:, None, None], -math.inf)
        attention = logits.softmax(dim=-1)
        used = attention
        if kept is not None:
            used = torch.cat([attention[:, :, :1] * kept[:, :, None], attention[:, :, 1:]], dim=2)
        fused = self.out_proj((used @ self._heads(value)).transpose(1, 2).flatten(2))[:, 0]

        row, shares, mean_keys, start = attention[:, :, 0], [], [], 1
        for z, mask in zip(tokens, hidden[1:], strict=True):
            part = slice(start, start := start + z.shape[1])
            shares.append(row[:, :, part].sum(-1).mean(1))
            present = (~mask).unsqueeze(-1)
            mean_keys.append((key[:, part] * present).sum(1) / present.sum(1).clamp(min=1))
        return FusionOutput(
            logits=self.head(fused),
            fused=fused,
            attention=row[:, :, 1:],
            share=torch.stack(shares, dim=1),
            query=query[:, 0].detach(),
            mean_keys=torch.stack(mean_keys, dim=1).detach(),
        )

    def _heads(self, rows: Tensor) -> Tensor:
        return rows.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def plain_rotation(source: Tensor, target: Tensor) -> Tensor:
    """Eq. 12 as the published code has it: the SVD of the rank-1 outer product, in float32."""
    u, w = source / source.norm(), target / target.norm()
    left, _, right = torch.linalg.svd(torch.outer(u, w))
    if torch.det(left @ right) < 0:
        left[:, -1] = -left[:, -1]
    return left @ right
