"""An intervention: part of a model stops learning after an epoch."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from rollingq_core._checks import require_integer
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.training.observer import Observer


class Frozen(Observer):
    """Freezes some of a model's parameters after an epoch of fusion, until training ends.

    They get no gradient from then on, hence no momentum and no decay; the rest goes on learning.

    Parameters
    ----------
    parts
        Beginnings of the parameters' names, such as ``"encoders."``.
    after
        The epoch of fusion, from 0, after which they stay as they are.

    Raises
    ------
    ValueError
        No part, or an epoch below 0. On starting, a part that no parameter of the model is of.
    """

    name = "frozen"
    leaves_out = True

    def __init__(self, parts: Sequence[str], after: int) -> None:
        if isinstance(parts, str) or not parts:
            raise ValueError(f"parts: got {parts!r}, expected one or more beginnings of names")
        self.parts = tuple(parts)
        self.after = require_integer("after", after, at_least=0)
        self.epoch, self.own = 0, list[nn.Parameter]()

    def require_own(self, model: MultimodalModel) -> None:
        """Raise a ``ValueError`` where the model has no such part."""
        named = list(model.named_parameters())
        for part in self.parts:
            if not any(name.startswith(part) for name, _ in named):
                raise ValueError(
                    f"parts: got {part!r}, expected the beginning of a parameter's name, "
                    f"such as {named[0][0]!r}"
                )
        self.own = [parameter for name, parameter in named if name.startswith(self.parts)]

    def end_epoch(self, model: MultimodalModel, train: Dataset) -> dict[str, Any]:
        """Close the epoch, and freeze the parts where it was the last that they learn in."""
        self.epoch += 1
        self._act()
        return {}

    def _act(self) -> None:
        if self.epoch > self.after:
            for parameter in self.own:
                parameter.requires_grad_(False)
                parameter.grad = None

    @property
    def identity(self) -> dict[str, Any]:
        """What is frozen, and when."""
        return {"parts": list(self.parts), "after": self.after}

    def state_dict(self) -> dict[str, Any]:
        """Return how many epochs are closed."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.epoch = state["epoch"]
        self._act()
