"""The fusion layer: a class-token query attends over the tokens of all modalities (Eq. 1 to 3)."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from rollingq_core._checks import (
    require_choice,
    require_integer,
    require_number,
    require_result,
    require_tokens,
)
from rollingq_core._linear import is_plain_linear
from rollingq_core._precision import at_least_float32, without_autocast
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.rotation import QueryRotation


class AttentionFusion(nn.Module):
    r"""Attention fusion with a class-token query, and a linear classifier on its output.

    .. math:: q = z_{cls} W_Q R,\quad K = z W_K,\quad V = z W_V,\quad
        A = q K^\top / \sqrt d,\quad h = \mathrm{softmax}(A)\, V

    A are the logits of Eq. 1 with the query of Eq. 13, h is the output of Eq. 2.

    Nothing reads any row but the class token's, so only that is computed, and neither K nor V is
    formed: :math:`q (z W_K)^\top = z (q W_K^\top)^\top` takes the query through W_K once, and
    :math:`p (z W_V) = (p z) W_V` pools the tokens before W_V. A token costs O(d), not O(d²).
    That holds for plain linear maps. A ``k_proj`` or ``v_proj`` that is anything else (adapted,
    pruned, normed, quantised, hooked) is called on each token instead.

    Parameters
    ----------
    dim
        Token dimension d.
    num_classes
        Number of classes C.
    num_heads
        Number of heads H, a divisor of ``dim``. R turns the whole query before it is split.
    cls_std
        Standard deviation of the learned class token at the start (published code: 0.02). It sets
        the query's length, hence how sharp attention can be.
    bias, output_projection
        Biases of the query, key and value maps, and the map after attention. The equations have
        neither, the published code has both.
    cls_self_key
        Whether the class token is also a key, as in the published code.
    attention_dropout, output_dropout
        Dropout on the softmax row and after the output map (published code: 0.2 each).
    mode
        ``"softmax"``, or ``"uniform"``: the control in which each token gets the same mass.

    Raises
    ------
    ValueError
        An option out of range. On calling: tokens of wrong type, dtype, device, rank, size or
        value, fewer than two modalities, a mask that does not fit, or a sample without any token.

    Examples
    --------
    >>> layer = AttentionFusion(8, 4)
    >>> audio, visual = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    >>> layer([audio, visual]).share.sum(dim=1)  # of attention, over the modalities
    tensor([1., 1.], grad_fn=<SumBackward1>)
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        num_heads: int = 1,
        *,
        cls_std: float = 0.02,
        bias: bool = True,
        output_projection: bool = True,
        cls_self_key: bool = False,
        attention_dropout: float = 0.0,
        output_dropout: float = 0.0,
        mode: Literal["softmax", "uniform"] = "softmax",
    ) -> None:
        super().__init__()
        dim = require_integer("dim", dim, at_least=2)
        num_classes = require_integer("num_classes", num_classes, at_least=1)
        num_heads = require_integer("num_heads", num_heads, at_least=1)
        if dim % num_heads:
            raise ValueError(f"num_heads: got {num_heads}, expected a divisor of dim {dim}")
        require_choice("mode", mode, ("softmax", "uniform"))
        require_number("cls_std", cls_std, above=0)
        require_number("attention_dropout", attention_dropout, at_least=0, at_most=1)
        require_number("output_dropout", output_dropout, at_least=0, at_most=1)
        self.dim, self.num_heads, self.mode = dim, num_heads, mode
        self.cls_self_key, self.attention_dropout = cls_self_key, attention_dropout
        self.cls = nn.Parameter(torch.empty(1, 1, dim))
        self.q_proj = nn.Linear(dim, dim, bias=bias)
        self.k_proj = nn.Linear(dim, dim, bias=bias)
        self.v_proj = nn.Linear(dim, dim, bias=bias)
        self.out_proj = nn.Linear(dim, dim, bias=bias) if output_projection else nn.Identity()
        self.output_dropout = nn.Dropout(output_dropout)
        self.head = nn.Linear(dim, num_classes)
        self.rotation = QueryRotation(dim)
        # Does nothing: a forward hook on it sees the softmax rows, and may change them.
        self.weights = nn.Identity()
        nn.init.trunc_normal_(self.cls, std=cls_std, a=-2 * cls_std, b=2 * cls_std)
        for layer in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    @classmethod
    def of_shape(cls, shape: FusionShape, **options: Any) -> "AttentionFusion":
        """Return a layer for a model of this shape; ``options`` are further ones of the layer."""
        return cls(
            shape.dim,
            shape.num_classes,
            cls_std=shape.cls_std,
            cls_self_key=shape.cls_self_key,
            attention_dropout=shape.dropout,
            output_dropout=shape.dropout,
            **options,
        )

    def forward(
        self,
        tokens: Sequence[Tensor],
        key_padding_masks: Sequence[Tensor | None] | None = None,
    ) -> FusionOutput:
        """Fuse the tokens of M modalities, one tensor ``[B, L_m, d]`` each.

        A mask is boolean, ``[B, L_m]``, True where a token is padding; None where none is.
        """
        padded = require_tokens(tokens, key_padding_masks, like=self.cls)
        output = self.attend(self.cls, tokens, padded)
        return output._replace(logits=self.head(output.fused))

    def attend(self, cls: Tensor, tokens: Sequence[Tensor], padded: Tensor | None) -> FusionOutput:
        """Let a class token, ``[1, 1, d]`` for all samples or ``[B, 1, d]``, attend to the tokens.

        ``padded`` is ``[B, sum L]``, or None. What is returned has no logits yet.
        """
        if self.cls_self_key and padded is not None:
            padded = nn.functional.pad(padded, (0, 1))
        batch, counts = tokens[0].shape[0], [z.shape[1] for z in tokens]
        query = self.rotation(self.q_proj(cls[:, 0]))  # [1, d] or [B, d], Eq. 13
        rows = [*tokens, cls.expand(batch, 1, -1)] if self.cls_self_key else list(tokens)
        keys = None if is_plain_linear(self.k_proj) else [self.k_proj(z) for z in rows]

        row = self.weights(self._attention_row(self._logits(query, rows, keys), padded))
        used = dropout(row, self.attention_dropout, self.training)  # [B, H, sum L]
        fused = self._read_values(used, rows)
        require_result(fused, tokens)
        attention = row[..., : sum(counts)]  # without the class token, if that is a key
        share = torch.stack([a.sum(-1).mean(1) for a in attention.split(counts, dim=-1)], dim=-1)
        return FusionOutput(
            logits=None,  # type: ignore[arg-type]  # the caller has the classifier
            fused=self.output_dropout(self.out_proj(fused)),  # [B, d]
            attention=attention,
            share=share,
            query=query.detach().expand(batch, -1),
            mean_keys=self._mean_keys(tokens, keys, padded),
        )

    def _logits(self, query: Tensor, rows: Sequence[Tensor], keys: Sequence[Tensor] | None):
        """Eq. 1 for each head, ``[B, sum L, H]``."""
        heads = query.unflatten(-1, (self.num_heads, -1)) / math.sqrt(self.dim // self.num_heads)
        if keys is not None:
            split = torch.cat(list(keys), dim=1).unflatten(-1, heads.shape[1:])
            return torch.einsum("blhe,bhe->blh", split, heads.expand(len(split), -1, -1))
        weight, bias = self.k_proj.weight.unflatten(0, heads.shape[1:]), self.k_proj.bias
        pushed = (heads.unsqueeze(2) @ weight).squeeze(2)  # [1, H, d] or [B, H, d]
        # Softmax does not see b_K, but distributed training waits for its (zero) gradient.
        offset = 0 if bias is None else (heads * bias.view(heads.shape[1:])).sum(-1).unsqueeze(1)
        return torch.cat([z @ pushed.mT + offset for z in rows], dim=1)

    def _attention_row(self, logits: Tensor, padded: Tensor | None) -> Tensor:
        if self.mode == "uniform":
            logits = torch.zeros_like(logits)
        if padded is not None:
            logits = logits.masked_fill(padded.unsqueeze(-1), -math.inf)
        return logits.softmax(dim=1).mT

    def _read_values(self, used: Tensor, rows: Sequence[Tensor]) -> Tensor:
        """Eq. 2 for each head, side by side, ``[B, d]``."""
        weights = used.split([z.shape[1] for z in rows], dim=-1)
        if not is_plain_linear(self.v_proj):
            values = torch.cat([self.v_proj(z) for z in rows], dim=1)
            split = values.unflatten(-1, (self.num_heads, -1))
            return torch.einsum("bhl,blhe->bhe", used, split).flatten(1)
        # Tokens are pooled first and multiplied by W_V once a sample, head by head.
        pooled = sum(own @ z for own, z in zip(weights, rows, strict=True))
        weight = self.v_proj.weight.view(self.num_heads, -1, self.dim)
        heads = (pooled.transpose(0, 1) @ weight.mT).transpose(0, 1)
        if self.v_proj.bias is not None:
            heads = heads + used.sum(-1, keepdim=True) * self.v_proj.bias.view(self.num_heads, -1)
        return heads.flatten(1)

    @torch.no_grad()
    def _mean_keys(
        self, tokens: Sequence[Tensor], keys: Sequence[Tensor] | None, padded: Tensor | None
    ) -> Tensor:
        """Eq. 3, ``[B, M, d]``; a linear map's mean is the map of the mean."""
        means, absent, start = [], [], 0
        for z in keys[: len(tokens)] if keys is not None else tokens:
            # In half precision the sum would overflow long before the mean.
            wide = at_least_float32(z.dtype)
            if padded is None:
                means.append(z.mean(dim=1, dtype=wide).to(z.dtype))
                continue
            mask, start = padded[:, start : start + z.shape[1]], start + z.shape[1]
            kept = (~mask).to(wide).unsqueeze(1)
            with without_autocast(z):
                total = (kept @ z.to(wide)).squeeze(1)
            means.append((total / kept.sum(-1).clamp(min=1)).to(z.dtype))
            absent.append(mask.all(dim=1))
        mean_keys = torch.stack(means, dim=1)
        mean_keys = self.k_proj(mean_keys) if keys is None else mean_keys
        if absent:
            mean_keys = mean_keys.masked_fill(torch.stack(absent, 1).unsqueeze(-1), 0)
        return mean_keys
