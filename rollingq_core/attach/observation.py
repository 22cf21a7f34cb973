"""What RollingQ observes of an attention layer: its query and each modality's average key."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from rollingq_core._checks import require_integer

Spans = Sequence[tuple[int, int]] | Mapping[str, tuple[int, int]]


class Observation(NamedTuple):
    """What :meth:`RollingQ.observe` takes in of one training batch.

    ``query`` [B, d], rotated, and ``mean_keys`` [B, M, d], both outside the gradient's graph. A
    modality of which a sample has no token has a row of zeros.
    """

    query: Tensor
    mean_keys: Tensor


def mean_keys(keys: Tensor, spans: Spans, padding: Tensor | None = None) -> Tensor:
    r"""Average key of each modality, :math:`\hat k_i^m = \mathrm{mean}_j\, k_{ij}^m` (Eq. 3).

    Parameters
    ----------
    keys
        All keys of a sequence, ``[B, L, d]``.
    spans
        First place and end of each modality's tokens, ``(start, stop)`` as in a slice.
    padding
        ``[B, L]`` bool, True where a token is padding.

    Returns
    -------
    Tensor
        ``[B, M, d]``, zeros where a sample has no token of a modality.

    Examples
    --------
    >>> mean_keys(torch.tensor([[[2.0], [4.0], [9.0]]]), [(0, 2), (2, 3)])
    tensor([[[3.],
             [9.]]])
    """
    # Half precision would lose digits, and overflow, in a sum.
    wide = keys.to(torch.promote_types(keys.dtype, torch.float32))
    means = []
    for start, stop in ranges(spans):
        own = wide[:, start:stop]
        if padding is None:
            means.append(own.mean(dim=1))
            continue
        kept = (~padding[:, start:stop]).to(own).unsqueeze(1)
        means.append((kept @ own).squeeze(1) / kept.sum(dim=-1).clamp(min=1))
    return torch.stack(means, dim=1).to(keys.dtype)


def ranges(spans: Spans) -> list[tuple[int, int]]:
    """Return first place and end of each modality; ``ValueError`` where they are none."""
    intervals = [*(spans.values() if isinstance(spans, Mapping) else spans)]
    if len(intervals) < 2:
        raise ValueError(f"spans: got {len(intervals)}, expected those of 2 or more modalities")
    for start, stop in intervals:
        require_integer("spans: start", start, at_least=0)
        require_integer("spans: stop", stop, at_least=start + 1)
    for one, other in pairwise(sorted(intervals)):
        if other[0] < one[1]:
            raise ValueError(
                f"spans: got {tuple(one)} and {tuple(other)}, expected ranges that share no place"
            )
    return [(int(start), int(stop)) for start, stop in intervals]
