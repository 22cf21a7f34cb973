"""Class-token attention inside a larger fusion: a query that each sample has its own of."""

from typing import Any

import torch
from torch import Tensor

from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.layers import attend, seen


class ClassTokenAttention(AttentionFusion):
    """Attention fusion without a class token and a classifier of its own.

    The class token comes from the block before, so that each sample has another query. One
    rotation turns them all (Appendix B).

    Parameters
    ----------
    dim, num_heads
        Token dimension d and number of heads, a divisor of it.
    self_key
        Whether the class token is also a key, as in a Transformer block.
    dropout
        On the softmax row and after the output map.

    Raises
    ------
    ValueError
        An option out of range.
    """

    def __init__(
        self, dim: int, num_heads: int = 1, *, self_key: bool = True, dropout: float = 0.0
    ) -> None:
        rates: dict[str, Any] = {"attention_dropout": dropout, "output_dropout": dropout}
        super().__init__(dim, 1, num_heads, cls_self_key=self_key, **rates)
        # Both are the fusion's around it.
        del self.cls, self.head

    def mix(self, tokens: Tensor, padded: Tensor | None) -> Tensor:
        """Return self-attention of every row, ``[B, L, d]``; the first row is the class token's.

        ``padded`` is ``[B, L]``. Only the class token's query is rotated.
        """
        query = self.q_proj(tokens)
        query = torch.cat([self.rotation(query[:, :1]), query[:, 1:]], dim=1)
        key, value = self.k_proj(tokens), self.v_proj(tokens)
        rate = self.attention_dropout if self.training else 0.0
        read = attend(query, key, value, self.num_heads, seen(padded), rate, self.weights)
        return self.output_dropout(self.out_proj(read))
