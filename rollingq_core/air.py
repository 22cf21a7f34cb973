"""How far the query leans: the Attention Imbalance Rate, and its running expectation."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from rollingq_core._checks import require_direction, require_observation
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
    """
    require_direction("keys_a", keys_a, ("B", "d"))
    require_direction("keys_v", keys_v, ("B", "d"), like=keys_a)
    per_sample = isinstance(query, Tensor) and query.dim() == 2
    require_direction("query", query, ("B", "d") if per_sample else ("d",), like=keys_a)
    cosines = modality_cosines(query, torch.stack((keys_a, keys_v), dim=1)).mean(dim=0)
    return cosines[0] - cosines[1]


def modality_cosines(query: Tensor, mean_keys: Tensor) -> Tensor:
    """Cosines ``[B, M]`` between query (``[d]`` or ``[B, d]``) and mean keys (``[B, M, d]``)."""
    tiny = torch.finfo(mean_keys.dtype).tiny
    query = query if query.dim() == 1 else query.unsqueeze(1)
    # Scaled by the largest entry first, so that no square under- or overflows.
    rows = [x / x.abs().amax(-1, keepdim=True).clamp(min=tiny) for x in (query, mean_keys)]
    return cosine_similarity(*rows, dim=-1, eps=tiny)


@dataclass(frozen=True)
class Expectation:
    """Expectations over samples: ``query`` [d], ``mean_keys`` [M, d], ``cosines`` [M]."""

    query: Tensor
    mean_keys: Tensor
    cosines: Tensor

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

    Each sample counts once. One without any token in some modality has no mean key there, hence a
    zero row, and is left out.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, query: Tensor, mean_keys: Tensor) -> None:
        """Add one batch: ``query`` of shape ``[d]`` or ``[B, d]``, ``mean_keys`` ``[B, M, d]``."""
        require_observation(query, mean_keys)
        # Apple's mps has no float64.
        wide = torch.float32 if mean_keys.device.type == "mps" else torch.float64
        keys = mean_keys.to(wide)
        rows = query.to(wide).expand(keys.shape[0], keys.shape[2])
        present = (keys != 0).any(dim=-1).all(dim=-1).to(wide)
        batch = {
            "count": present.sum(),
            "query": present @ rows,
            "mean_keys": torch.einsum("b,bmd->md", present, keys),
            "cosines": present @ modality_cosines(rows, keys),
        }
        self.sums = {name: self.sums.get(name, 0) + value for name, value in batch.items()}

    def compute(self) -> Expectation | None:
        """Return the expectations over all processes, or None when no sample was observed."""
        count, *sums = summed(self.sums).values() or (0,)
        return Expectation(*(value / count for value in sums)) if count else None
