"""What a fusion layer returns."""

from typing import NamedTuple

from torch import Tensor


class FusionOutput(NamedTuple):
    """What a fusion layer returns, for M modalities, H heads and sum L tokens in all.

    ``logits`` [B, C]; ``fused`` [B, d], the output h of the class-token row (Eq. 2), or whatever
    else the classifier reads; ``attention`` [B, H, sum L], the softmax row over all tokens (with
    ``cls_self_key`` it sums to 1 minus the mass on the class token); ``share`` [B, M], each
    modality's mass, mean over heads; and, outside the gradient's graph, ``query`` [B, d] after
    rotation (Eq. 13) and ``mean_keys`` [B, M, d], the average key of each modality's unpadded
    tokens (Eq. 3). A row of zeros there says that the sample lacks the modality: all its tokens
    are padding.

    A static fusion has no attention: it leaves the last four None.

    Examples
    --------
    >>> import torch
    >>> from rollingq_core import AttentionFusion
    >>> output = AttentionFusion(8, 4)([torch.randn(2, 5, 8), torch.randn(2, 3, 8)])
    >>> [*output.attention.shape], [*output.mean_keys.shape]
    ([2, 1, 8], [2, 2, 8])
    """

    logits: Tensor
    fused: Tensor
    attention: Tensor | None = None
    share: Tensor | None = None
    query: Tensor | None = None
    mean_keys: Tensor | None = None
