"""What a fusion layer is built for: the sizes and options that every kind of fusion is given."""

from typing import Literal, NamedTuple


class FusionShape(NamedTuple):
    """Sizes and options; each kind of fusion reads those that it knows.

    ``dim`` is the token dimension d, ``num_classes`` C, ``modalities`` are the names of the M
    modalities in order; ``pool`` says what stands for a modality where one vector does (``"mean"``
    of the tokens, or the ``"first"``); ``cls_std``, ``cls_self_key`` and ``dropout`` are those of
    :class:`rollingq_core.AttentionFusion`.
    """

    dim: int
    num_classes: int
    modalities: tuple[str, ...]
    pool: Literal["mean", "first"] = "mean"
    cls_std: float = 0.02
    cls_self_key: bool = False
    dropout: float = 0.0
