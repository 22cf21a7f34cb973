"""Where the query should point, and the rotation that takes it there (Eq. 10 to 13)."""

import math

import torch
from torch import Tensor, nn

from rollingq_core._checks import (
    require_direction,
    require_finite,
    require_integer,
    require_number,
    require_tensor,
    require_width,
)
from rollingq_core._linear import multiply_outputs, require_own_linear
from rollingq_core._precision import ExactBuffers, without_autocast
from rollingq_core.plane import PlaneRotation, plane_rotation, unit, unit_pair


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

    Examples
    --------
    >>> round(anchor_weight(1.0, rho=1), 3)  # the first modality leads: it gets less
    0.119
    """
    rho = require_number("rho", rho, above=0)
    if isinstance(air, Tensor):
        require_finite("air", air)
        return 0.5 * (1 + torch.tanh(-rho * air))
    return 0.5 * (1 + math.tanh(-rho * require_number("air", air)))


def anchor_weights(cosines: Tensor, rho: float) -> Tensor:
    """Weights ``softmax(-2 rho cosines)`` of M modalities [M]; for two of them exactly Eq. 11.

    Examples
    --------
    >>> anchor_weights(torch.tensor([0.5, -0.5]), rho=1)
    tensor([0.1192, 0.8808])
    """
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

    Examples
    --------
    >>> rebalance_anchor(torch.tensor([2.0, 0.0]), *torch.eye(2), alpha=0.5)
    tensor([1.4142, 1.4142])
    """
    require_direction("query", query, ("d",))
    require_direction("key_a", key_a, ("d",), like=query)
    require_direction("key_v", key_v, ("d",), like=query)
    alpha = require_number("alpha", alpha, at_least=0, at_most=1)
    return weighted_anchor(query, torch.stack((key_a, key_v)), query.new_tensor([alpha, 1 - alpha]))


def weighted_anchor(query: Tensor, mean_keys: Tensor, weights: Tensor) -> Tensor:
    """Eq. 10 for M modalities: ``mean_keys`` of shape ``[M, d]``, ``weights`` of shape ``[M]``.

    Examples
    --------
    >>> weighted_anchor(torch.tensor([2.0, 0.0]), torch.eye(2), torch.tensor([0.0, 1.0]))
    tensor([0., 2.])
    """
    require_direction("mean_keys", mean_keys, ("M", "d"))
    with without_autocast(query):
        mixed = weights @ torch.stack([unit(key) for key in mean_keys])
        if torch.linalg.vector_norm(mixed) <= 8 * torch.finfo(mixed.dtype).eps:
            raise ValueError(f"alpha: got {weights[0]:.6g}, for which the keys cancel each other")
        return unit(mixed) * (query @ unit(query))


def minimal_rotation(source: Tensor, target: Tensor) -> Tensor:
    """Smallest rotation with ``source @ R`` parallel to ``target`` (the R_b of Eq. 12).

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

    Examples
    --------
    >>> source, target = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    >>> (source @ minimal_rotation(source, target)).round()
    tensor([0., 3., 0.])
    """
    return plane_rotation(source, target).matrix().to(source)


def svd_rotation(source: Tensor, target: Tensor) -> Tensor:
    """Rotation with ``source @ R`` parallel to ``target`` by the paper's SVD route (Eq. 12).

    As :func:`minimal_rotation`, but off the plane R is whatever the SVD of a rank-1 matrix returns.

    Examples
    --------
    >>> source, target = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    >>> (source @ svd_rotation(source, target))[1]
    tensor(3.)
    """
    left, _, right = torch.linalg.svd(torch.outer(*unit_pair(source, target)))
    # A float32 determinant would underflow to 0 at d = 768, and miss the reflections.
    if torch.linalg.slogdet(left @ right).sign < 0:
        left[:, -1] = -left[:, -1]
    return (left @ right).to(source)


class QueryRotation(ExactBuffers):
    """Accumulated rotation of a query of dimension ``dim``, not trained: ``q_r = q R`` (Eq. 13).

    Its buffers are part of any ``state_dict``: ``matrix`` (R, ``[d, d]``, the identity at start:
    output equals input bit for bit), ``count`` (rotations so far), and the schedule that
    :class:`RollingQ` keeps here, ``epoch`` (epochs closed) and ``last_rotation`` (the epoch of the
    last rotation, -1 before the first). R stays in float32 or wider, whatever a model is cast to.
    A state without the schedule, as older versions saved it, leaves the schedule as it is.

    Examples
    --------
    >>> rotation = QueryRotation(2)
    >>> rotation.rotate(minimal_rotation(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])))
    >>> rotation(torch.tensor([1.0, 0.0])).round(), int(rotation.count)
    (tensor([0., 1.]), 1)
    """

    added = ("epoch", "last_rotation")
    matrix: Tensor
    count: Tensor
    epoch: Tensor
    last_rotation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = require_integer("dim", dim, at_least=2)
        self.register_buffer("matrix", torch.eye(self.dim))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("epoch", torch.tensor(0))
        self.register_buffer("last_rotation", torch.tensor(-1))

    def forward(self, query: Tensor) -> Tensor:
        """Return ``query @ R`` for ``query`` of shape ``[..., d]``, in the query's dtype."""
        require_width("query", query, self.dim)
        # Half precision would round even an identity's product.
        with without_autocast(query):
            wide = torch.promote_types(query.dtype, self.matrix.dtype)
            return (query.to(wide) @ self.matrix.to(wide)).to(query.dtype)

    @torch.no_grad()
    def rotate(self, rotation: Tensor | PlaneRotation) -> None:
        """Compose one more rotation, ``R <- R R_b`` (Eq. 13), and count it.

        R_b is a :class:`PlaneRotation` or a matrix ``[d, d]``; one of wrong size, not finite or
        not orthogonal raises a ``ValueError``.
        """
        with without_autocast(self.matrix):
            if isinstance(rotation, PlaneRotation):
                basis = rotation.basis
                require_tensor("rotation", basis, ("2", "d"), like=self.matrix[:2], finite=False)
                rotation.require_orthogonal("rotation")
                self.matrix.addmm_(*rotation.factors(self.matrix))
            else:
                require_tensor("rotation", rotation, ("d", "d"), like=self.matrix)
                eye = torch.eye(self.dim).to(rotation)
                drift = float((rotation @ rotation.mT - eye).abs().max())
                if drift > 1e-3:
                    raise ValueError(
                        f"rotation: R R' is {drift:.2g} off I, expected an orthogonal R"
                    )
                self.matrix.copy_(self.matrix @ rotation.to(self.matrix))
        self.count.add_(1)

    @torch.no_grad()
    def fold_into(self, linear: nn.Linear) -> nn.Linear:
        """Move R into the linear layer that makes the query, and go back to the identity.

        ``linear(x) @ R`` before equals ``linear(x)`` after, up to one rounding of each weight.
        ``count`` and the schedule stay. It is meant for a finished model: an optimiser's momentum
        would stay in the old coordinates.

        Parameters
        ----------
        linear
            Changed in place and returned.

        Raises
        ------
        ValueError
            Nothing has changed then. Only a plain ``nn.Linear`` of d outputs can take R: none that
            is wrapped by an adapter, parametrised, pruned, quantised or hooked, and none whose
            weight other modules use too (looked for among all modules that are alive), for the
            turn would reach those. Nor can a dtype that does not hold the product's values.
        """
        multiply_outputs(require_own_linear("linear", linear, self.dim), self.matrix)
        self.matrix.copy_(torch.eye(self.dim))
        return linear
