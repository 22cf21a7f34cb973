"""Algorithm 1: watch the imbalance while training, and rotate the query when it grows too large."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rollingq_core._checks import require_choice, require_finite, require_integer, require_number
from rollingq_core._precision import negligible
from rollingq_core._watch import QueryWatch
from rollingq_core.air import Expectation, RunningExpectation
from rollingq_core.controls import CONTROLS, Control, control_turn
from rollingq_core.rotation import (
    PlaneRotation,
    QueryRotation,
    anchor_weights,
    plane_rotation,
    svd_rotation,
    weighted_anchor,
)

Estimate = Literal["epoch", "last_batch"]
Rotation = Literal["minimal", "svd", Control]


@dataclass(frozen=True)
class RotationEvent:
    """One rotation, the ``count``-th, at the end of epoch ``epoch`` (from 0).

    ``air`` is Eq. 9 between the first two modalities, ``cosines`` each modality's expected cosine,
    ``weights`` those of the anchor (Eq. 11), ``angle`` the turn of the expected query in radians,
    and the norms are those of the expected query and average keys.

    Examples
    --------
    >>> lean = {"air": 1.0, "cosines": (1.0, 0.0), "weights": (0.1, 0.9), "angle": 1.5}
    >>> event = RotationEvent(epoch=0, count=1, query_norm=2.0, key_norms=(1.0, 1.0), **lean)
    >>> event.weights
    (0.1, 0.9)
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

    The number of epochs and rotations so far, and the epoch of the last rotation, are buffers of
    the layer's :class:`QueryRotation`, and so part of the model's ``state_dict``: a new RollingQ on
    a loaded layer goes on with its schedule. For the same reason a rotation should have one
    RollingQ at a time: epochs that a second one closes count too, unless it only watches and may
    not rotate (``max_rotations`` 0, no ``schedule``). ``module`` is the rotation,
    ``events`` are this object's rotations, and ``last`` holds the closed epoch's expectations (None
    where no sample had a key in each modality).

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
        ``"minimal"`` and ``"svd"`` (the paper's) turn to the anchor. Controls turn at the same
        times elsewhere: those of :func:`rollingq_core.controls.control_turn`.
    schedule
        For the controls: the events of a RollingQ run to be paired with. Rotations then happen at
        exactly these epochs (and by these angles), whatever the imbalance here.
    seed
        Seed of the controls' random directions.

    Examples
    --------
    >>> turn = QueryRotation(2)
    >>> rolling = RollingQ(turn, rho=1, beta=0.5, max_rotations=1)
    >>> query, mean_keys = torch.tensor([2.0, 0.0]), torch.eye(2)[None]
    >>> rolling.observe(query=turn(query), mean_keys=mean_keys)
    >>> rolling.end_epoch().air
    1.0
    >>> turn(query).argmax()  # it points to the second modality now
    tensor(1)
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
        if schedule is not None and rotation not in CONTROLS:
            raise ValueError(f"schedule: got one with {rotation!r}, expected one of {CONTROLS}")
        self.module = module
        self.rho = require_number("rho", rho, above=0)
        self.beta = require_number("beta", beta, at_least=0)
        self.max_rotations = require_integer("max_rotations", max_rotations, at_least=0)
        self.start_epoch = require_integer("start_epoch", start_epoch, at_least=0)
        self.spacing = require_integer("spacing", spacing, at_least=1)
        self.estimate, self.rotation = estimate, rotation
        self.schedule = None if schedule is None else {event.epoch: event for event in schedule}
        seed = require_integer("seed", seed, at_least=0, at_most=2**64 - 1)
        self.generator = torch.Generator().manual_seed(seed)
        self.running = RunningExpectation()
        self.events: list[RotationEvent] = []
        self.last: Expectation | None = None
        self.watch = QueryWatch()

    @property
    def epoch(self) -> int:
        """Number of epochs closed so far, also before this object was made."""
        return int(self.module.epoch)

    def observe(
        self,
        output: Any = None,
        *,
        query: Tensor | None = None,
        mean_keys: Tensor | None = None,
        training: bool = True,
    ) -> None:
        """Take in one training batch: a ``FusionOutput``, or the query and mean keys by name.

        The query, ``[d]`` or ``[B, d]``, is the rotated one, and the mean keys are ``[B, M, d]``. A
        row of zeros in these says that the sample lacks the modality; it is then left out. With
        ``training=False``, as a model in evaluation passes it on, nothing happens.
        """
        if not training:
            return
        if output is not None:
            query, mean_keys = output.query, output.mean_keys
        if self.estimate == "last_batch":
            self.running = RunningExpectation()
        self.running.update(query, mean_keys)
        assert query is not None  # else the line above has raised
        self.watch.see(query)

    def end_epoch(self) -> RotationEvent | None:
        """Close the epoch, and rotate the query where the imbalance calls for it.

        Without a rotation the result is None. Where one is due but there is no direction to turn
        from or to, that is a warning, and training goes on; expectations that are not finite
        (training has diverged) raise a ``ValueError``.
        """
        observed, epoch = bool(self.running.sums), self.epoch
        expected = self.last = self.running.compute()
        self.running = RunningExpectation()
        if self.max_rotations or self.schedule:
            self.module.epoch.add_(1)
        if expected is not None:
            require_finite("output.query", expected.query)
            require_finite("output.mean_keys", expected.mean_keys)
        elif not observed:
            return None
        if not self._is_due(epoch, expected):
            return None
        try:
            if expected is None:
                raise ValueError("output.mean_keys: got no sample with a key in each modality")
            weights, anchor = self._anchor(expected)
            turn = plane_rotation(expected.query, anchor)
        except ValueError as error:
            warnings.warn(f"no rotation after epoch {epoch}: {error}", stacklevel=2)
            return None
        if self.rotation in CONTROLS:
            angle = self.schedule[epoch].angle if self.schedule else turn.angle
            turn = control_turn(self.rotation, expected.query, turn, angle, self.generator)
        done = svd_rotation(expected.query, anchor) if self.rotation == "svd" else turn
        self.module.rotate(done)
        self.module.last_rotation.fill_(epoch)
        apply = done.apply if isinstance(done, PlaneRotation) else done.mT.matmul
        self.watch.turn(apply, expected.query, expected.query_norm)
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

    def _is_due(self, epoch: int, expected: Expectation | None) -> bool:
        if self.schedule is not None:
            return epoch in self.schedule
        last = int(self.module.last_rotation)
        first = last + self.spacing if last >= 0 else self.start_epoch
        in_time = epoch >= first and int(self.module.count) < self.max_rotations
        return in_time and (expected is None or expected.imbalance >= self.beta)

    def _anchor(self, expected: Expectation) -> tuple[Tensor, Tensor]:
        """Return the weights (Eq. 11) and the anchor (Eq. 10); ``ValueError`` where none is."""
        weights = anchor_weights(expected.cosines, self.rho)
        anchor = weighted_anchor(expected.query, expected.mean_keys, weights)
        if negligible(expected.mean_keys).any():
            raise ValueError("output.mean_keys: got a key that is only rounding beside the others")
        return weights, anchor

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule, events, open sums and random state; R itself is the module's."""
        return {
            "epoch": self.epoch,
            "last_rotation": int(self.module.last_rotation),
            "events": [asdict(event) for event in self.events],
            "sums": dict(self.running.sums),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`, also one of an older version."""
        self.events = [RotationEvent(**event) for event in state["events"]]
        last = self.events[-1].epoch if self.events else -1
        self.module.epoch.fill_(state["epoch"])
        self.module.last_rotation.fill_(state.get("last_rotation", last))
        self.running.sums = dict(state["sums"])
        self.generator.set_state(state["generator"].cpu())
        self.watch = QueryWatch()
