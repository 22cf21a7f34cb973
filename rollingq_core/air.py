"""How far the query leans: the Attention Imbalance Rate, and its running expectation."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from rollingq_core._checks import require_direction, require_observation
from rollingq_core._precision import at_least_float32, negligible, without_autocast
from rollingq_core._ranks import summed


def attention_imbalance_rate(query: Tensor, keys_a: Tensor, keys_v: Tensor) -> Tensor:
    r"""Mean difference of the cosines between the query and two modalities' average keys (Eq. 9).

    .. math:: \mathrm{AIR} = \frac1B \sum_i
        \bigl[\cos(q_i, \hat k_i^a) - \cos(q_i, \hat k_i^v)\bigr]

    Parameters
    ----------
    query
        Shape ``[d]``, or ``[B, d]`` where each sample has a query of its own.
    keys_a, keys_v
        Each sample's average key in the first and the second modality, shape ``[B, d]``. The
        result, in [-2, 2], is positive where the first modality leads.

    Raises
    ------
    ValueError
        Wrong rank or size, an empty axis, a non-finite value, or a row of zero norm.

    Examples
    --------
    >>> query = torch.tensor([2.0, 0.0])
    >>> keys_a, keys_v = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> attention_imbalance_rate(query, keys_a, keys_v)  # cosines 1 and 0
    tensor(1.)
    """
    require_direction("keys_a", keys_a, ("B", "d"))
    require_direction("keys_v", keys_v, ("B", "d"), like=keys_a)
    per_sample = isinstance(query, Tensor) and query.dim() == 2
    require_direction("query", query, ("B", "d") if per_sample else ("d",), like=keys_a)
    cosines = modality_cosines(query, torch.stack((keys_a, keys_v), dim=1)).mean(dim=0)
    cosines = cosines.to(keys_a.dtype)
    return cosines[0] - cosines[1]


def modality_cosines(query: Tensor, mean_keys: Tensor) -> Tensor:
    """Cosines ``[B, M]`` between query (``[d]`` or ``[B, d]``) and mean keys (``[B, M, d]``).

    They are those of Eq. 4 and 9, in float32 at least.

    Examples
    --------
    >>> modality_cosines(torch.tensor([2.0, 0.0]), torch.tensor([[[3.0, 0.0], [-1.0, 0.0]]]))
    tensor([[ 1., -1.]])
    """
    wide = at_least_float32(mean_keys.dtype)
    tiny = torch.finfo(wide).tiny
    query, mean_keys = query.to(wide), mean_keys.to(wide)
    query = query if query.dim() == 1 else query.unsqueeze(1)
    # Scaled by the largest entry first, so that no square under- or overflows.
    query, mean_keys = [
        vectors / vectors.abs().amax(-1, keepdim=True).clamp(min=tiny)
        for vectors in (query, mean_keys)
    ]
    return cosine_similarity(query, mean_keys, dim=-1, eps=tiny)


@dataclass(frozen=True)
class Expectation:
    """Expectations over samples: ``query`` [d], ``mean_keys`` [M, d] (Eq. 3), ``cosines`` [M].

    ``query_norm`` is that of the queries' lengths; it is much above the length of ``query`` where
    each sample has a query of its own and they cancel.

    Examples
    --------
    >>> lean = Expectation(torch.ones(2), torch.eye(2), torch.tensor([0.5, -0.25]))
    >>> lean.air, lean.imbalance
    (0.75, 0.75)
    """

    query: Tensor
    mean_keys: Tensor
    cosines: Tensor
    query_norm: Tensor | None = None

    @property
    def air(self) -> float:
        """AIR of Eq. 9 between the first two modalities."""
        return float(self.cosines[0] - self.cosines[1])

    @property
    def imbalance(self) -> float:
        """Largest minus smallest expected cosine; for two modalities the absolute AIR."""
        return float(self.cosines.max() - self.cosines.min())


class RunningExpectation:
    """Expectations streamed over an epoch's batches, in float64, with no second pass.

    Each sample counts once. One that lacks a modality is left out: all its tokens there are padding
    and its mean key is a row of zeros, or the key is negligible beside its others, as where
    a modality is missing as zeros that are not masked.

    Examples
    --------
    >>> running = RunningExpectation()
    >>> running.update(torch.tensor([1.0, 0.0]), torch.eye(2).expand(5, 2, 2))
    >>> running.compute().air
    1.0
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, query: Tensor | None, mean_keys: Tensor | None) -> None:
        """Add one batch: ``query`` of shape ``[d]`` or ``[B, d]``, ``mean_keys`` ``[B, M, d]``."""
        query, mean_keys = require_observation(query, mean_keys)
        # Apple's mps has no float64.
        wide = torch.float32 if mean_keys.device.type == "mps" else torch.float64
        keys = mean_keys.to(wide)
        rows = query.to(wide).expand(keys.shape[0], keys.shape[2])
        present = (~negligible(mean_keys).any(dim=-1)).to(wide)
        with without_autocast(keys):
            batch = {
                "count": present.sum(),
                "query": present @ rows,
                "mean_keys": torch.einsum("b,bmd->md", present, keys),
                "cosines": present @ modality_cosines(rows, keys),
                "query_norm": present @ torch.linalg.vector_norm(rows, dim=-1),
            }
        self.sums = {name: self.sums.get(name, 0) + value for name, value in batch.items()}

    def compute(self) -> Expectation | None:
        """Return the expectations over all processes, or None when no sample counted."""
        count, *sums = summed(self.sums).values() or (0,)
        return Expectation(*(value / count for value in sums)) if count else None
