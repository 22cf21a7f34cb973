"""``nn.MultiheadAttention``, whose projections are no modules: the rotated row by itself."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from rollingq_core.attach.handle import Attached, KnownRotation


class AttachedMultihead(Attached):
    """``nn.MultiheadAttention``, whose projections are no modules of their own.

    ``block`` is the encoder layer around it, where that was given to :func:`attach`.
    """

    def __init__(
        self,
        layer: nn.MultiheadAttention,
        spans: list[tuple[int, int]],
        row: int,
        block: nn.Module | None = None,
    ) -> None:
        if layer.bias_k is not None or layer.add_zero_attn:
            raise ValueError(
                "attention: got add_bias_kv or add_zero_attn, expected a layer without these keys "
                "that belong to no token"
            )
        super().__init__(layer, layer.embed_dim, spans, row)
        layer.attached, self.block = self, None  # type: ignore[assignment]
        layer.__class__ = RolledMultiheadAttention
        if type(block) is nn.TransformerEncoderLayer:
            self.block = block
            block.__class__ = RolledEncoderLayer

    def detach(self) -> None:
        """Take the rotation out again, and give the layer its class back."""
        super().detach()
        del self.layer.attached
        self.layer.__class__ = nn.MultiheadAttention
        if self.block is not None:
            self.block.__class__ = nn.TransformerEncoderLayer


class RolledMultiheadAttention(nn.MultiheadAttention):
    """What ``nn.MultiheadAttention`` becomes by :func:`attach`: one of its queries is rotated."""

    rotation: KnownRotation
    attached: AttachedMultihead

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As the parent's; with no turn yet, it is the parent's."""
        self.rotation.look_again()
        if self.rotation.turned or self.training:
            own, keys = self._own_query(query), self._keys(key)
            padding = None if key_padding_mask is None else key_padding_mask != 0
            self.attached._observe(own, keys, padding)
        output, weights = super().forward(
            query,
            key,
            value,
            key_padding_mask,
            need_weights,
            attn_mask,
            average_attn_weights,
            is_causal,
        )
        if not self.rotation.turned:
            return output, weights
        row, own_weights = self._row(own, keys, value, key_padding_mask, attn_mask)
        if not self.batch_first:
            output = output.transpose(0, 1)
        output = _with_row(output, row, self.attached.row)
        if weights is not None:
            shown = own_weights.mean(dim=1) if average_attn_weights else own_weights
            weights = _with_row(weights, shown, self.attached.row, dim=-2)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _own_query(self, query: Tensor) -> Tensor:
        """Return the rotated query ``[B, d]`` of the row."""
        if query.dim() != 3 or query.is_nested:
            raise ValueError(
                f"query: got {'a nested tensor' if query.is_nested else list(query.shape)}, "
                "expected a batch of sequences of one length (an nn.TransformerEncoder around this "
                "layer needs enable_nested_tensor=False)"
            )
        own = query[:, self.attached.row] if self.batch_first else query[self.attached.row]
        weight, bias = self._projection(0)
        return self.rotation(linear(own, weight, bias))

    def _keys(self, key: Tensor) -> Tensor:
        return linear(key if self.batch_first else key.transpose(0, 1), *self._projection(1))

    def _projection(self, which: int) -> tuple[Tensor, Tensor | None]:
        if self._qkv_same_embed_dim:
            weight = self.in_proj_weight.chunk(3)[which]
        else:
            weight = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[which]
        return weight, None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)[which]

    def _row(
        self,
        own: Tensor,
        keys: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the row's output ``[B, E]`` and its attention ``[B, H, S]``."""
        heads = (self.num_heads, self.head_dim)
        values = linear(value if self.batch_first else value.transpose(0, 1), *self._projection(2))
        queries = own.unflatten(-1, heads) / math.sqrt(self.head_dim)  # [B, H, d/H]
        scores = torch.einsum("bhd,bshd->bhs", queries, keys.unflatten(-1, heads))
        if attn_mask is not None:
            mask = attn_mask[..., self.attached.row, :]
            scores = _masked(scores, mask if mask.dim() == 1 else mask.view_as(scores))
        if key_padding_mask is not None:
            scores = _masked(scores, key_padding_mask.unsqueeze(1))
        attention = scores.softmax(dim=-1)
        used = dropout(attention, self.dropout, self.training)
        fused = torch.einsum("bhs,bshd->bhd", used, values.unflatten(-1, heads)).flatten(1)
        return self.out_proj(fused), attention


class RolledEncoderLayer(nn.TransformerEncoderLayer):
    """What ``nn.TransformerEncoderLayer`` becomes: its fast path would pass a turn by."""

    self_attn: RolledMultiheadAttention

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        """As the parent's."""
        self.self_attn.rotation.look_again()
        return super().forward(*arguments, **options)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else scores + mask


def _with_row(rows: Tensor, own: Tensor, place: int, dim: int = 1) -> Tensor:
    before, _, after = rows.tensor_split((place, place + 1), dim=dim)
    return torch.cat((before, own.unsqueeze(dim), after), dim=dim)
