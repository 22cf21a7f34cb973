"""RollingQ as an observer of the training loop."""

from dataclasses import asdict
from typing import Any

from torch.utils.data import Dataset

from rollingq_core.air import RunningExpectation
from rollingq_core.models.multimodal import ModelOutput, MultimodalModel
from rollingq_core.rolling import RollingQ, RotationEvent
from rollingq_core.training.observer import Observer, lean

OPTIONS = ("rho", "beta", "max_rotations", "start_epoch", "spacing", "estimate", "rotation")


class Rolling(Observer):
    """Algorithm 1 beside the loop: sees each batch, and may turn the query between two epochs.

    Parameters
    ----------
    rolling
        RollingQ, bound to the layer that is trained.

    Raises
    ------
    ValueError
        On starting, one that is bound to a layer of another model, which it would rotate instead.
    """

    name = "rolling"
    watches_attention = True
    stacks = True

    def __init__(self, rolling: RollingQ) -> None:
        self.rolling = rolling

    @property
    def events(self) -> list[RotationEvent]:
        """The rotations so far."""
        return self.rolling.events

    @property
    def estimate(self) -> str:
        """Whether expectations are those of the epoch or of the last batch."""
        return self.rolling.estimate

    @property
    def running(self) -> RunningExpectation:
        """The open expectations."""
        return self.rolling.running

    def require_own(self, model: MultimodalModel) -> None:
        """Raise a ``ValueError`` where what turns is no part of the model."""
        turned = self.rolling.module
        if not any(module is turned for module in model.fusion.modules()):
            raise ValueError(
                f"rolling: got one bound to a layer outside of this model (d = {turned.dim}, "
                f"{int(turned.count)} rotations so far), expected it bound to the "
                f"{type(model.fusion).__name__} that is trained here: RollingQ(model.fusion, ...)"
            )

    def on_batch(self, output: ModelOutput) -> None:
        """Pass the batch's query and mean keys on."""
        self.rolling.observe(output.fusion)

    def end_epoch(self, model: MultimodalModel, train: Dataset) -> dict[str, Any]:
        """Close the epoch, and return its lean and its rotation."""
        event = self.rolling.end_epoch()
        rotation = asdict(event) if event else None
        return lean(self.rolling.last, model.modalities) | {"rotation": rotation}

    @property
    def identity(self) -> dict[str, Any]:
        """Algorithm 1's options, and the events that a control is paired with."""
        events = self.rolling.schedule
        schedule = None if events is None else list(map(asdict, events.values()))
        return {name: getattr(self.rolling, name) for name in OPTIONS} | {"schedule": schedule}

    def state_dict(self) -> dict[str, Any]:
        """Return RollingQ's state; R itself is the model's."""
        return self.rolling.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.rolling.load_state_dict(state)
