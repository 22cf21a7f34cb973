"""Where the query should point, and the rotation that takes it there (Eq. 10 to 13)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rollingq_core._checks import (
    require_direction,
    require_integer,
    require_number,
    require_tensor,
    require_width,
)

# Below this sine two unit vectors count as parallel: float64 leaves their plane undefined.
PARALLEL = 1e-12


def anchor_weight(air: float | Tensor, rho: float) -> float | Tensor:
    r"""Weight of the first modality in the anchor (Eq. 11).

    .. math:: \alpha = \tfrac12 \bigl(1 + \tanh(-\rho\,\mathrm{AIR})\bigr)

    Parameters
    ----------
    air
        The imbalance of Eq. 9, a number or a tensor; the result, in [0, 1], is of its kind.
    rho
        Strength, above 0: the larger, the more the anchor favours the neglected modality.

    Raises
    ------
    ValueError
        ``rho`` not above 0, or a value that is not finite.
    """
    rho = require_number("rho", rho, above=0)
    if isinstance(air, Tensor):
        require_number("air", air.detach().abs().max())
        return 0.5 * (1 + torch.tanh(-rho * air))
    return 0.5 * (1 + math.tanh(-rho * require_number("air", air)))


def anchor_weights(cosines: Tensor, rho: float) -> Tensor:
    """Weights ``softmax(-2 rho cosines)`` of M modalities [M]; for two of them exactly Eq. 11."""
    require_tensor("cosines", cosines, ("M",))
    return torch.softmax(-2 * require_number("rho", rho, above=0) * cosines, dim=0)


def rebalance_anchor(query: Tensor, key_a: Tensor, key_v: Tensor, alpha: float | Tensor) -> Tensor:
    r"""Rebalance anchor, where the query should point (Eq. 10), as long as the query.

    .. math:: q_b = \lVert q\rVert\; n\bigl(\alpha\, n(\hat k^a) + (1-\alpha)\, n(\hat k^v)\bigr),
        \qquad n(x) = x / \lVert x\rVert

    The paper writes no outer n. Without it the anchor would be shorter than the query, for a
    weighted mean of two different unit vectors is shorter than one.

    Parameters
    ----------
    query, key_a, key_v
        Expected query and expected average keys, shape ``[d]``, that of the result.
    alpha
        Weight of the first modality, in [0, 1] (Eq. 11).

    Raises
    ------
    ValueError
        Wrong rank or size, a non-finite value, a zero norm, ``alpha`` outside [0, 1], or keys that
        cancel each other.
    """
    require_direction("query", query, ("d",))
    require_direction("key_a", key_a, ("d",), like=query)
    require_direction("key_v", key_v, ("d",), like=query)
    alpha = require_number("alpha", alpha, at_least=0, at_most=1)
    return weighted_anchor(query, torch.stack((key_a, key_v)), query.new_tensor([alpha, 1 - alpha]))


def weighted_anchor(query: Tensor, mean_keys: Tensor, weights: Tensor) -> Tensor:
    """Eq. 10 for M modalities: ``mean_keys`` of shape ``[M, d]``, ``weights`` of shape ``[M]``."""
    require_direction("mean_keys", mean_keys, ("M", "d"))
    mixed = weights @ torch.stack([_unit(key) for key in mean_keys])
    if torch.linalg.vector_norm(mixed) <= 8 * torch.finfo(mixed.dtype).eps:
        raise ValueError(f"alpha: got {weights[0]:.6g}, for which the keys cancel each other")
    return _unit(mixed) * (query @ _unit(query))


class PlaneRotation(NamedTuple):
    """A turn in one plane, the identity off it (Eq. 12 and 13), as ``R = I + B' block B``.

    ``basis`` B holds the plane's orthonormal rows u and p, shape ``[2, d]``; ``block`` is
    ``[[cos - 1, sin], [-sin, cos - 1]]``. Applying it to a row costs O(d).
    """

    basis: Tensor
    block: Tensor

    @classmethod
    def by_angle(cls, u: Tensor, p: Tensor, angle: float) -> "PlaneRotation":
        """Turn the unit row ``u`` by ``angle`` (radians) toward ``p``, at right angles to it."""
        # -2 sin^2(angle / 2) is cos - 1 without the cancellation at small angles.
        drop, sine = -2 * math.sin(angle / 2) ** 2, math.sin(angle)
        return cls(torch.stack((u, p)), u.new_tensor([[drop, sine], [-sine, drop]]))

    @property
    def angle(self) -> float:
        """Size of the turn in radians, from 0 to pi."""
        return abs(math.atan2(float(self.block[0, 1]), 1 + float(self.block[0, 0])))

    def apply(self, rows: Tensor) -> Tensor:
        """Return ``rows @ R`` for ``rows`` of shape ``[..., d]``."""
        return torch.matmul(*self.factors(rows)).add_(rows)

    def factors(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors, ``[..., 2]`` and ``[2, d]``, of the change ``rows @ (R - I)``."""
        return rows @ self.basis.to(rows).mT, (self.block @ self.basis).to(rows)

    def matrix(self) -> Tensor:
        """Return R, shape ``[d, d]``."""
        return self.apply(torch.eye(self.basis.shape[1]).to(self.basis))


def plane_rotation(source: Tensor, target: Tensor) -> PlaneRotation:
    """As :func:`minimal_rotation`, kept as a plane and in float64."""
    u, w = _unit_pair(source, target)
    off = _reject(w, u)
    sine, cosine = float(torch.linalg.vector_norm(off)), float(u @ w)
    if sine > PARALLEL:
        return PlaneRotation.by_angle(u, off / sine, math.atan2(sine, cosine))
    axis = nn.functional.one_hot(u.abs().argmin(), len(u)).to(u)
    return PlaneRotation.by_angle(u, _unit(_reject(axis, u)), 0.0 if cosine > 0 else math.pi)


def minimal_rotation(source: Tensor, target: Tensor) -> Tensor:
    """Smallest rotation with ``source @ R`` parallel to ``target`` (Eq. 12 and 13).

    It turns the plane of the two and is the identity off it, so that it disturbs nothing else that
    was learned. Parallel vectors give the identity; antiparallel ones a turn by pi in the plane of
    ``source`` and the axis that it leans on least. Computed in float64, then cast.

    Parameters
    ----------
    source, target
        Shape ``[d]``, d at least 2; the result ``[d, d]`` has ``source``'s dtype and device.

    Raises
    ------
    ValueError
        Wrong rank or size, a non-finite value, or a zero norm.
    """
    return plane_rotation(source, target).matrix().to(source)


def svd_rotation(source: Tensor, target: Tensor) -> Tensor:
    """Rotation with ``source @ R`` parallel to ``target`` by the paper's SVD route (Eq. 12).

    As :func:`minimal_rotation`, but off the plane R is whatever the SVD of a rank-1 matrix returns.
    """
    left, _, right = torch.linalg.svd(torch.outer(*_unit_pair(source, target)))
    # A float32 determinant would underflow to 0 at d = 768, and miss the reflections.
    if torch.linalg.slogdet(left @ right).sign < 0:
        left[:, -1] = -left[:, -1]
    return (left @ right).to(source)


class QueryRotation(nn.Module):
    """Accumulated rotation of a query of dimension ``dim``, not trained: ``q_b = q R``.

    The buffers ``matrix`` (``[d, d]``, the identity at start: output equals input bit for bit) and
    ``count`` (rotations so far) are part of ``state_dict``.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = require_integer("dim", dim, at_least=2)
        self.register_buffer("matrix", torch.eye(self.dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, query: Tensor) -> Tensor:
        """Return ``query @ R`` for ``query`` of shape ``[..., d]``, in the query's dtype."""
        require_width("query", query, self.dim)
        # Half precision would round even an identity's product.
        with torch.autocast(query.device.type, enabled=False):
            wide = torch.promote_types(query.dtype, self.matrix.dtype)
            return (query.to(wide) @ self.matrix.to(wide)).to(query.dtype)

    @torch.no_grad()
    def rotate(self, rotation: Tensor | PlaneRotation) -> None:
        """Compose one more rotation, ``R <- R R_b`` (Eq. 13), and count it.

        R_b is a :class:`PlaneRotation` or a matrix ``[d, d]``; one of wrong size, not finite or
        not orthogonal raises a ``ValueError``.
        """
        if isinstance(rotation, PlaneRotation):
            require_tensor("rotation", rotation.basis, ("2", "d"), like=self.matrix[:2])
            self.matrix.addmm_(*rotation.factors(self.matrix))
        else:
            require_tensor("rotation", rotation, ("d", "d"), like=self.matrix)
            drift = float((rotation @ rotation.mT - torch.eye(self.dim).to(rotation)).abs().max())
            if drift > 1e-3:
                raise ValueError(f"rotation: R R' is {drift:.2g} off I, expected an orthogonal R")
            self.matrix.copy_(self.matrix @ rotation.to(self.matrix))
        self.count.add_(1)

    @torch.no_grad()
    def fold_into(self, linear: nn.Linear) -> nn.Linear:
        """Move R into the linear layer that makes the query, and go back to the identity.

        ``linear(x) @ R`` before equals ``linear(x)`` after. ``count`` stays. ``linear`` is changed
        in place and returned; an output size other than d raises a ``ValueError``.
        """
        if linear.out_features != self.dim:
            raise ValueError(f"linear: got {linear.out_features} outputs, expected {self.dim}")
        rotation = self.matrix.to(linear.weight)
        # nn.Linear stores the transpose of the row convention's W.
        linear.weight.copy_(rotation.mT @ linear.weight)
        if linear.bias is not None:
            linear.bias.copy_(linear.bias @ rotation)
        self.matrix.copy_(torch.eye(self.dim))
        return linear


def _unit(vector: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(vector)
    if not 1e-15 < length.item() < 1e15:  # squares may have under- or overflowed
        vector = vector / vector.abs().max()
        length = torch.linalg.vector_norm(vector)
    return vector / length


def _reject(vector: Tensor, unit: Tensor) -> Tensor:
    # Twice: one Gram-Schmidt step loses the right angle between nearly parallel vectors.
    once = vector - (vector @ unit) * unit
    return once - (once @ unit) * unit


def _unit_pair(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    require_tensor("source", source, ("d",), finite=False)
    require_tensor("target", target, ("d",), source, finite=False)
    require_integer("source: its dimension", source.shape[0], at_least=2)
    # On the CPU: not every accelerator has float64.
    u, w = (_unit(vector.detach().cpu().double()) for vector in (source, target))
    if math.isnan(u @ w):  # then one of them is not finite, or has no direction
        require_direction("source", source, ("d",))
        require_direction("target", target, ("d",))
    return u, w
