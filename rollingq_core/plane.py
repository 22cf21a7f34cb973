"""The smallest turn between two directions, kept as a plane and an angle."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rollingq_core._checks import require_direction, require_integer, require_tensor

# Below this sine two unit vectors count as parallel: float64 leaves their plane undefined.
PARALLEL = 1e-12


class PlaneRotation(NamedTuple):
    """A turn in one plane, the identity off it, as ``R = I + B' block B``: our form of Eq. 12's R.

    ``basis`` B holds the plane's orthonormal rows u and p, shape ``[2, d]``; ``block`` is
    ``[[cos - 1, sin], [-sin, cos - 1]]``. Applying it to a row costs O(d).

    Examples
    --------
    >>> east, north = torch.eye(2)
    >>> quarter = PlaneRotation.by_angle(east, north, math.pi / 2)
    >>> quarter.apply(north).round()
    tensor([-1.,  0.])
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

    def require_orthogonal(self, name: str) -> None:
        """Raise ``ValueError`` when this is further than 1e-3 from a rotation, or not finite."""
        if self.block.shape != (2, 2):
            raise ValueError(f"{name}: got a block of shape {[*self.block.shape]}, expected [2, 2]")
        (uu, up), (_, pp) = (self.basis @ self.basis.mT).tolist()
        (drop, sine), (back, same) = self.block.tolist()
        errors = (uu - 1, pp - 1, up, math.hypot(1 + drop, sine) - 1, sine + back, drop - same)
        drift = sum(map(abs, errors))
        if not drift < 1e-3:  # nor is NaN
            raise ValueError(
                f"{name}: got a plane or a turn that is {drift:.2g} off, expected orthonormal rows "
                "and [[cos - 1, sin], [-sin, cos - 1]]"
            )

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
    """As :func:`rollingq_core.minimal_rotation`, kept as a plane and in float64.

    Examples
    --------
    >>> turn = plane_rotation(torch.tensor([1.0, 0, 0]), torch.tensor([1.0, 1, 0]))
    >>> round(math.degrees(turn.angle))
    45
    """
    u, w = unit_pair(source, target)
    off = _reject(w, u)
    sine, cosine = float(torch.linalg.vector_norm(off)), float(u @ w)
    if sine > PARALLEL:
        return PlaneRotation.by_angle(u, off / sine, math.atan2(sine, cosine))
    axis = nn.functional.one_hot(u.abs().argmin(), len(u)).to(u)
    return PlaneRotation.by_angle(u, unit(_reject(axis, u)), 0.0 if cosine > 0 else math.pi)


def unit(vector: Tensor) -> Tensor:
    """Return ``vector`` divided by its length, however extreme that is."""
    length = torch.linalg.vector_norm(vector)
    if not 1e-15 < length.item() < 1e15:  # squares may have under- or overflowed
        vector = vector / vector.abs().max()
        length = torch.linalg.vector_norm(vector)
    return vector / length


def unit_pair(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as unit vectors in float64 on the CPU: not every accelerator has float64."""
    require_tensor("source", source, ("d",), finite=False)
    require_tensor("target", target, ("d",), source, finite=False)
    require_integer("source: its dimension", source.shape[0], at_least=2)
    u, w = (unit(vector.detach().cpu().double()) for vector in (source, target))
    if math.isnan(u @ w):  # then one of them is not finite, or has no direction
        require_direction("source", source, ("d",))
        require_direction("target", target, ("d",))
    return u, w


def _reject(vector: Tensor, along: Tensor) -> Tensor:
    # Twice: one Gram-Schmidt step loses the right angle between nearly parallel vectors.
    once = vector - (vector @ along) * along
    return once - (once @ along) * along
