"""A stack of Transformer blocks over the tokens of all modalities (vanilla MT*, earlier fusion)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rollingq_core._checks import require_integer, require_number, require_tokens
from rollingq_core.fusion.class_token import ClassTokenAttention
from rollingq_core.fusion.layers import feed_forward, initialise, require_heads
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.rotation import QueryRotation


class StackBlock(nn.Module):
    """A pre-norm Transformer block over ``[cls | tokens]`` whose class-token query can be turned.

    Parameters
    ----------
    dim, num_heads, dropout
        As in :class:`rollingq_core.fusion.class_token.ClassTokenAttention`.
    """

    def __init__(self, dim: int, num_heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = ClassTokenAttention(dim, num_heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = feed_forward(dim, nn.GELU, dropout)

    def forward(self, tokens: Tensor, padded: Tensor | None) -> Tensor:
        """Return all rows ``[B, 1 + L, d]`` after the block; ``padded`` is ``[B, L]``."""
        seen = None if padded is None else pad(padded, (1, 0))
        tokens = tokens + self.attention.mix(self.norm1(tokens), seen)
        return tokens + self.mlp(self.norm2(tokens))

    def class_row(
        self, tokens: Tensor, counts: Sequence[int], padded: Tensor | None
    ) -> tuple[Tensor, FusionOutput]:
        """Return the class token ``[B, d]`` after the block, and what its query saw.

        No other row is computed; ``counts`` are the modalities' numbers of tokens.
        """
        normed = self.norm1(tokens)
        modalities = normed[:, 1:].split(list(counts), dim=1)
        output = self.attention.attend(normed[:, :1], modalities, padded)
        cls = tokens[:, 0] + output.fused
        return cls + self.mlp(self.norm2(cls)), output


class StackFusion(nn.Module):
    r"""Pre-norm Transformer blocks over ``[cls | tokens of all modalities]``, and a classifier.

    .. math:: z \leftarrow z + \mathrm{Attention}(\mathrm{LN}(z)),\quad
        z \leftarrow z + \mathrm{MLP}(\mathrm{LN}(z)),\quad
        \hat y = f(\mathrm{LN}(z_{cls}))

    The paper's MT* has two such blocks on top of the encoders; with fewer blocks in the encoders
    and more here, fusion is earlier (Table 11). Modalities have no positions of their own here, so
    that the order of a modality's tokens does not matter. Each block has a rotation; only the
    query of its class token is turned. Of the last block only that row is computed. So only the
    last block's rotation may be folded into its query map: an earlier block's map makes the
    queries of all rows.

    Blocks can be bypassed (:meth:`use_blocks`), as progressive training does (Appendix B).

    Parameters
    ----------
    dim, num_classes
        Token dimension d and number of classes C.
    depth
        Number of blocks.
    num_heads
        Heads of each block, a divisor of ``dim``; one, so that a rotation is that of the whole
        query.
    cls_std
        Standard deviation of the learned class token at the start.
    dropout
        On softmax rows, and after each attention and feed-forward part.

    Raises
    ------
    ValueError
        An option out of range. On calling: what attention fusion refuses.

    Examples
    --------
    >>> layer = StackFusion(8, 4)
    >>> output = layer([torch.randn(2, 5, 8), torch.randn(2, 3, 8)])
    >>> [*output.logits.shape], [*output.attention.shape], [*output.mean_keys.shape]
    ([2, 4], [2, 1, 8], [2, 2, 8])
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        depth: int = 2,
        num_heads: int = 1,
        *,
        cls_std: float = 0.02,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.num_heads = require_heads(dim, num_heads)
        num_classes = require_integer("num_classes", num_classes, at_least=1)
        depth = require_integer("depth", depth, at_least=1)
        require_number("cls_std", cls_std, above=0)
        require_number("dropout", dropout, at_least=0, at_most=1)
        self.cls = nn.Parameter(torch.empty(1, 1, dim))
        self.blocks = nn.ModuleList(StackBlock(dim, num_heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes)
        # How many blocks are in use; a number beside it, as what is compiled can't read a tensor.
        self.register_buffer("used", torch.tensor(depth))
        self.num_used = depth
        self.register_load_state_dict_post_hook(_read_used)
        nn.init.trunc_normal_(self.cls, std=cls_std, a=-2 * cls_std, b=2 * cls_std)
        initialise(self)

    @classmethod
    def of_shape(cls, shape: FusionShape, **options: Any) -> "StackFusion":
        """Return a fusion for a model of this shape; ``options`` are further ones of it."""
        sizes = shape.dim, shape.num_classes
        return cls(*sizes, cls_std=shape.cls_std, dropout=shape.dropout, **options)

    @property
    def rotation(self) -> QueryRotation:
        """The rotation of the last block in use: its query is what the output tells of."""
        return self.rotations[self.num_used - 1]

    @property
    def rotations(self) -> list[QueryRotation]:
        """Each block's rotation."""
        return [block.attention.rotation for block in self.blocks]  # type: ignore[union-attr,misc]

    def use_blocks(self, count: int) -> None:
        """Use the first ``count`` blocks, and bypass those after them.

        Raises
        ------
        ValueError
            There are not so many, or none is left.
        """
        most = len(self.blocks)
        self.num_used = require_integer("count", count, at_least=1, at_most=most)
        self.used.fill_(self.num_used)  # type: ignore[operator]

    def forward(
        self,
        tokens: Sequence[Tensor],
        key_padding_masks: Sequence[Tensor | None] | None = None,
    ) -> FusionOutput:
        """Fuse the tokens of M modalities, ``[B, L_m, d]`` each, masks as in attention fusion."""
        padded = require_tokens(tokens, key_padding_masks, like=self.cls)
        counts = [z.shape[1] for z in tokens]
        rows = torch.cat([self.cls.expand(len(tokens[0]), 1, -1), *tokens], dim=1)
        *earlier, last = self.blocks[: self.num_used]
        for block in earlier:
            rows = block(rows, padded)  # type: ignore[operator]
        cls, output = last.class_row(rows, counts, padded)  # type: ignore[operator]
        fused = self.norm(cls)
        return output._replace(logits=self.head(fused), fused=fused)


def _read_used(module: nn.Module, incompatible: Any) -> None:
    assert isinstance(module, StackFusion)  # whose hook this is
    module.num_used = int(module.used)  # type: ignore[arg-type]
