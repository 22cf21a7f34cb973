"""Earlier fusion: the last blocks of the backbone are shared by all modalities (Table 11)."""

from typing import Any

from rollingq_core._checks import require_integer
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.fusion.stack import StackFusion


class EarlyFusion(StackFusion):
    """The joint blocks of a backbone that fuses from one of its blocks on.

    A backbone of ``blocks`` blocks that fuses from number ``first`` on has ``first - 1`` blocks for
    each modality, which are its encoders, and the others here: one stack over
    ``[cls | tokens of all modalities]``, with one layer norm at its end. The paper leaves open
    whether joint blocks share their weights, and which class token is read; here they do, and it
    is the fusion's.

    Parameters
    ----------
    dim, num_classes
        Token dimension d and number of classes C.
    first, blocks
        Number of the first joint block, from 2 to ``blocks``, and of all blocks.
    **options
        Those of :class:`rollingq_core.fusion.StackFusion`.

    Raises
    ------
    ValueError
        An option out of range.

    Examples
    --------
    >>> len(EarlyFusion(8, 4, first=2).blocks), len(EarlyFusion(8, 4, first=4).blocks)
    (3, 1)
    """

    # The layer norm at the end is the encoders'.
    continues_encoders = True

    def __init__(
        self, dim: int, num_classes: int, first: int = 2, blocks: int = 4, **options: Any
    ) -> None:
        blocks = require_integer("blocks", blocks, at_least=2)
        first = require_integer("first", first, at_least=2, at_most=blocks)
        super().__init__(dim, num_classes, blocks - first + 1, **options)

    @classmethod
    def of_shape(cls, shape: FusionShape, **options: Any) -> "EarlyFusion":
        """Return a fusion for a model of this shape; ``options`` are further ones of it."""
        sizes = shape.dim, shape.num_classes
        return cls(*sizes, cls_std=shape.cls_std, dropout=shape.dropout, **options)
