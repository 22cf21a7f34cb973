"""Attention before training: many initialisations of the fusion layer at once (Proposition 3.1)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor, nn

from rollingq_core._checks import require_integer, require_number


class InitialAttention(NamedTuple):
    """Attention of N untrained layers.

    ``scores`` [N, sum L], the logits A of Eq. 1; ``share`` [N, M], softmax mass of each modality;
    ``summed`` [N, M], the sum of logits of each modality (Eq. 4); ``query_norm`` [N].
    """

    scores: Tensor
    share: Tensor
    summed: Tensor
    query_norm: Tensor


def random_tokens(
    draws: int, dim: int, counts: Sequence[int], generator: torch.Generator
) -> list[Tensor]:
    """Return layer-normalised Gaussian tokens, ``[draws, L_m, dim]`` for each modality.

    Parameters
    ----------
    draws
        Number of samples.
    dim
        Token dimension d.
    counts
        Tokens L_m of each modality.
    generator
        Source of chance.

    Raises
    ------
    ValueError
        A number that is no integer of at least 1.
    """
    require_integer("draws", draws, at_least=1)
    require_integer("dim", dim, at_least=1)
    for count in counts:
        require_integer("counts", count, at_least=1)
    return [
        nn.functional.layer_norm(torch.randn(draws, n, dim, generator=generator), (dim,))
        for n in counts
    ]


def initial_attention(
    tokens: Sequence[Tensor], cls_std: float, generator: torch.Generator
) -> InitialAttention:
    """Draw an untrained :class:`rollingq_core.AttentionFusion` for each sample of ``tokens``.

    The weights have that layer's distribution, one head: a truncated normal class token, Xavier
    normal W_Q and W_K, and no bias, since biases start at zero.

    Parameters
    ----------
    tokens
        One tensor ``[N, L_m, d]`` for each modality.
    cls_std
        Standard deviation of the class token.
    generator
        Source of chance.

    Raises
    ------
    ValueError
        Tensors that do not fit each other, or ``cls_std`` not above 0.
    """
    shapes = [list(z.shape) for z in tokens]
    if len(shapes) < 2 or any(len(s) != 3 or s[::2] != shapes[0][::2] for s in shapes):
        raise ValueError(
            f"tokens: got shapes {shapes}, expected [N, L, d] twice or more, with the same N and d"
        )
    require_number("cls_std", cls_std, above=0)
    draws, _, dim = shapes[0]
    cls = torch.empty(draws, 1, dim)
    nn.init.trunc_normal_(cls, std=cls_std, a=-2 * cls_std, b=2 * cls_std, generator=generator)

    def xavier() -> Tensor:
        return torch.randn(draws, dim, dim, generator=generator) / math.sqrt(dim)

    query = cls @ xavier()
    scores = ((query @ xavier().mT) @ torch.cat(list(tokens), 1).mT)[:, 0] / math.sqrt(dim)
    counts = [s[1] for s in shapes]

    def by_modality(row: Tensor) -> Tensor:
        return torch.stack([own.sum(-1) for own in row.split(counts, dim=-1)], dim=-1)

    return InitialAttention(
        scores, by_modality(scores.softmax(-1)), by_modality(scores), query.norm(dim=-1)[:, 0]
    )


def simultaneous_intervals(samples: Sequence[Tensor], level: float = 0.95) -> Tensor:
    """Return mean and half width, ``[K, 2]``, of intervals that *all* hold at ``level``.

    Student's intervals, each at the level that Bonferroni's inequality asks of it.

    Parameters
    ----------
    samples
        K samples of independent numbers.
    level
        Chance, at the least, that every interval covers its mean.

    Raises
    ------
    ValueError
        ``level`` outside (0, 1).
    """
    if require_number("level", level, above=0) >= 1:
        raise ValueError(f"level: got {level}, expected a number between 0 and 1")
    tail = (1 - level) / (2 * len(samples))
    rows = []
    for sample in samples:
        sample = sample.double()
        quantile = float(stats.t.ppf(1 - tail, len(sample) - 1))
        rows.append(torch.stack([sample.mean(), quantile * sample.std() / math.sqrt(len(sample))]))
    return torch.stack(rows)
