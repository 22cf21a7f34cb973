"""Progressive training of a stack, with RollingQ on one block after the other (Appendix B)."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from torch.utils.data import Dataset

from rollingq_core._checks import require_integer
from rollingq_core.balancing.rolling import OPTIONS
from rollingq_core.fusion.stack import StackFusion
from rollingq_core.models.multimodal import ModelOutput, MultimodalModel
from rollingq_core.rolling import RollingQ, RotationEvent
from rollingq_core.training.observer import Observer, lean


class Progressive(Observer):
    """Trains a stack block by block, and turns the query of the last block in use.

    Stage 1 trains the first block, with the others bypassed and the classifier on its class token.
    Then the next block comes into use. The rotations of those before stay as they are, and RollingQ
    goes on with the new block's, its count and its epochs beginning again. A query that each sample
    has its own of is turned by the rotation that its expectation calls for.

    Parameters
    ----------
    rollings
        RollingQ on each block of the stack, in order; one that may not rotate only watches.
    epochs
        Epochs of fusion that each block but the last has for itself.

    Raises
    ------
    ValueError
        A number of epochs below 0. On starting, a model whose fusion is no stack, or another one.
    """

    name = "progressive"
    watches_attention = True
    leaves_out = True

    def __init__(self, rollings: Sequence[RollingQ], epochs: int) -> None:
        self.rollings = list(rollings)
        self.epochs = require_integer("epochs", epochs, at_least=0)
        self.closed = 0

    @property
    def stage(self) -> int:
        """Number of the block that is trained and turned, from 0."""
        last = len(self.rollings) - 1
        return min(self.closed // self.epochs, last) if self.epochs else last

    @property
    def events(self) -> list[RotationEvent]:
        """The rotations so far; their epochs count from the start of fusion."""
        return [
            replace(event, epoch=event.epoch + block * self.epochs)
            for block, rolling in enumerate(self.rollings)
            for event in rolling.events
        ]

    def require_own(self, model: MultimodalModel) -> None:
        """Raise a ``ValueError`` where the model has not these blocks."""
        rotations = model.fusion.rotations if isinstance(model.fusion, StackFusion) else []
        own = [rolling.module for rolling in self.rollings]
        if len(own) != len(rotations) or any(
            a is not b for a, b in zip(own, rotations, strict=True)
        ):
            raise ValueError(
                f"progressive: got {len(own)} blocks to turn, expected the {len(rotations)} of the "
                f"{type(model.fusion).__name__} that is trained here"
            )

    def start(self, model: MultimodalModel, train: Dataset) -> None:
        """Bypass all blocks but the first."""
        self._use(model)

    def on_batch(self, output: ModelOutput) -> None:
        """Pass the batch's query and mean keys on."""
        self.rollings[self.stage].observe(output.fusion)

    def end_epoch(self, model: MultimodalModel, train: Dataset) -> dict[str, Any]:
        """Close the epoch, and take the next block into use where its time has come."""
        stage = self.stage
        rolling = self.rollings[stage]
        event = rolling.end_epoch()
        self.closed += 1
        self._use(model)
        if event is not None:
            event = replace(event, epoch=event.epoch + stage * self.epochs)
        rotation = asdict(event) if event else None
        return lean(rolling.last, model.modalities) | {"block": stage, "rotation": rotation}

    def _use(self, model: MultimodalModel) -> None:
        assert isinstance(model.fusion, StackFusion)  # as require_own has seen
        model.fusion.use_blocks(self.stage + 1)

    @property
    def identity(self) -> dict[str, Any]:
        """Each block's options, the events it is paired with, and the epochs of a stage."""
        options = [{name: getattr(r, name) for name in OPTIONS} for r in self.rollings]
        schedules = [
            None if r.schedule is None else list(map(asdict, r.schedule.values()))
            for r in self.rollings
        ]
        schedule = None if all(s is None for s in schedules) else schedules
        return {"epochs": self.epochs, "blocks": options, "schedule": schedule}

    def state_dict(self) -> dict[str, Any]:
        """Return each block's RollingQ, and how many epochs are closed."""
        states = [rolling.state_dict() for rolling in self.rollings]
        return {"closed": self.closed, "rollings": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.closed = state["closed"]
        for rolling, own in zip(self.rollings, state["rollings"], strict=True):
            rolling.load_state_dict(own)
