"""Algorithm 1: watch the imbalance while training, and rotate the query when it grows too large."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rollingq_core._checks import (
    require_choice,
    require_finite,
    require_integer,
    require_number,
)
from rollingq_core.air import Expectation, RunningExpectation
from rollingq_core.rotation import (
    PlaneRotation,
    QueryRotation,
    anchor_weights,
    plane_rotation,
    svd_rotation,
    weighted_anchor,
)

Estimate = Literal["epoch", "last_batch"]
Rotation = Literal["minimal", "svd", "random_matched", "random_free"]


@dataclass(frozen=True)
class RotationEvent:
    """One rotation, the ``count``-th, at the end of epoch ``epoch`` (from 0).

    ``air`` is Eq. 9 between the first two modalities, ``cosines`` each modality's expected cosine,
    ``weights`` those of the anchor (Eq. 11), ``angle`` the turn of the expected query in radians,
    and the norms are those of the expected query and average keys.
    """

    epoch: int
    count: int
    air: float
    cosines: tuple[float, ...]
    weights: tuple[float, ...]
    angle: float
    query_norm: float
    key_norms: tuple[float, ...]


class RollingQ:
    """Algorithm 1 of the paper, beside any training loop.

    Call :meth:`observe` on each training batch and :meth:`end_epoch` after the last one. An option
    out of range raises a ``ValueError``.

    Parameters
    ----------
    layer
        A :class:`QueryRotation`, or a module that has one as ``rotation``.
    rho, beta
        Strength of the rebalancing (Eq. 11), above 0, and the imbalance, at least 0, that calls
        for a rotation.
    max_rotations
        Number of rotations allowed in all.
    start_epoch, spacing
        First epoch (from 0) whose end may rotate, and the least number of epochs between two.
    estimate
        ``"epoch"``: expectations over all samples seen in the epoch; ``"last_batch"``: over the
        last batch alone, as the paper writes it.
    rotation
        ``"minimal"`` and ``"svd"`` (the paper's) turn to the anchor. Two controls turn at the same
        times: ``"random_matched"`` by the same angle in a random plane, ``"random_free"`` to a
        random direction.
    schedule
        For the controls: the events of a RollingQ run to be paired with. Rotations then happen at
        exactly these epochs (and by these angles), whatever the imbalance here.
    seed
        Seed of the controls' random directions.
    """

    def __init__(
        self,
        layer: nn.Module,
        rho: float,
        beta: float,
        max_rotations: int,
        *,
        start_epoch: int = 0,
        spacing: int = 1,
        estimate: Estimate = "epoch",
        rotation: Rotation = "minimal",
        schedule: Sequence[RotationEvent] | None = None,
        seed: int = 0,
    ) -> None:
        module = layer if isinstance(layer, QueryRotation) else getattr(layer, "rotation", None)
        if not isinstance(module, QueryRotation):
            raise ValueError(
                f"layer: got {type(layer).__name__}, expected one with a QueryRotation 'rotation'"
            )
        require_choice("estimate", estimate, get_args(Estimate))
        require_choice("rotation", rotation, get_args(Rotation))
        if schedule is not None and not rotation.startswith("random"):
            raise ValueError(f"schedule: got one with {rotation!r}, expected a random control")
        self.module = module
        self.rho = require_number("rho", rho, above=0)
        self.beta = require_number("beta", beta, at_least=0)
        self.max_rotations = require_integer("max_rotations", max_rotations, at_least=0)
        self.start_epoch = require_integer("start_epoch", start_epoch, at_least=0)
        self.spacing = require_integer("spacing", spacing, at_least=1)
        self.estimate, self.rotation = estimate, rotation
        self.schedule = None if schedule is None else {event.epoch: event for event in schedule}
        self.generator = torch.Generator().manual_seed(
            require_integer("seed", seed, at_least=0, at_most=2**64 - 1)
        )
        self.running, self.epoch = RunningExpectation(), 0
        self.events: list[RotationEvent] = []
        self.last: Expectation | None = None

    def observe(self, output: Any = None, *, query: Tensor = None, mean_keys: Tensor = None):
        """Take in one training batch: a ``FusionOutput``, or the query and mean keys by name."""
        if output is not None:
            query, mean_keys = output.query, output.mean_keys
        if self.estimate == "last_batch":
            self.running = RunningExpectation()
        self.running.update(query, mean_keys)

    def end_epoch(self) -> RotationEvent | None:
        """Close the epoch, and rotate the query where the imbalance calls for it.

        The closed epoch's expectations stay in ``last``. Without a rotation the result is None;
        expectations that are not finite (training has diverged) raise a ``ValueError``.
        """
        expected = self.last = self.running.compute()
        self.running = RunningExpectation()
        epoch, self.epoch = self.epoch, self.epoch + 1
        if expected is None:
            return None
        require_finite("output.query", expected.query)
        require_finite("output.mean_keys", expected.mean_keys)
        if not self._is_due(epoch, expected.imbalance):
            return None
        weights = anchor_weights(expected.cosines, self.rho)
        try:
            anchor = weighted_anchor(expected.query, expected.mean_keys, weights)
            turn = plane_rotation(expected.query, anchor)
        except ValueError as error:
            warnings.warn(f"no rotation after epoch {epoch}: {error}", stacklevel=2)
            return None
        if self.rotation.startswith("random"):
            angle = self.schedule[epoch].angle if self.schedule else turn.angle
            noise = torch.randn(anchor.shape, generator=self.generator, dtype=torch.float64)
            turn = plane_rotation(expected.query, noise)
        if self.rotation == "random_matched":
            turn = PlaneRotation.by_angle(*turn.basis, angle)
        self.module.rotate(svd_rotation(expected.query, anchor) if self.rotation == "svd" else turn)
        event = RotationEvent(
            epoch=epoch,
            count=int(self.module.count),
            air=expected.air,
            cosines=tuple(expected.cosines.tolist()),
            weights=tuple(weights.tolist()),
            angle=turn.angle,
            query_norm=float(expected.query.norm()),
            key_norms=tuple(expected.mean_keys.norm(dim=-1).tolist()),
        )
        self.events.append(event)
        return event

    def _is_due(self, epoch: int, imbalance: float) -> bool:
        if self.schedule is not None:
            return epoch in self.schedule
        first = self.events[-1].epoch + self.spacing if self.events else self.start_epoch
        in_time = epoch >= first and int(self.module.count) < self.max_rotations
        return in_time and imbalance >= self.beta

    def state_dict(self) -> dict[str, Any]:
        """Return epoch, events, open sums and random state; R and its count are the module's."""
        return {
            "epoch": self.epoch,
            "events": [asdict(event) for event in self.events],
            "sums": dict(self.running.sums),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.epoch = state["epoch"]
        self.events = [RotationEvent(**event) for event in state["events"]]
        self.running.sums = dict(state["sums"])
        self.generator.set_state(state["generator"].cpu())
