"""A control: a query as long as another run's, without that run's turns."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from rollingq_core._checks import require_number
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.rotation import QueryRotation
from rollingq_core.training.observer import AttentionWatch


def rotation_of(name: str, model: MultimodalModel) -> QueryRotation:
    """Return the rotation of a model's fusion; a ``ValueError`` of that name where it has none."""
    rotation = getattr(model.fusion, "rotation", None)
    if not isinstance(rotation, QueryRotation):
        raise ValueError(
            f"{name}: got a {type(model.fusion).__name__}, expected a fusion with a rotation"
        )
    return rotation


class MatchedLength(AttentionWatch):
    r"""Keeps the query as long as it was in another run, epoch by epoch, and never turns it.

    After epoch e the query is multiplied by :math:`l_e / |\mathrm E[q]|`, through the buffer that
    rotations use. The factors stay: training goes on with them, as it does with a turn.

    Parameters
    ----------
    lengths
        :math:`l_e` for each epoch of fusion, the length of the other run's expected query; None
        (or a run that is longer) leaves the query as it is.

    Raises
    ------
    ValueError
        A length that is not above 0. On starting, a fusion without a rotation.
    """

    name = "length"
    stacks = True

    def __init__(self, lengths: Sequence[float] | None = None) -> None:
        super().__init__()
        self.lengths = [
            require_number(f"lengths[{epoch}]", value, above=0)
            for epoch, value in enumerate(lengths or ())
        ]
        self.epoch = 0

    def require_own(self, model: MultimodalModel) -> None:
        """Raise a ``ValueError`` where there is no query to lengthen."""
        rotation_of(self.name, model)

    def end_epoch(self, model: MultimodalModel, train: Dataset) -> dict[str, Any]:
        """Close the epoch, and give the query the other run's length."""
        told = super().end_epoch(model, train)
        epoch, self.epoch = self.epoch, self.epoch + 1
        if epoch < len(self.lengths) and told["query_norm"]:
            factor = self.lengths[epoch] / told["query_norm"]
            rotation_of(self.name, model).matrix.mul_(factor)
        return told

    @property
    def identity(self) -> dict[str, Any]:
        """The lengths, as what is paired with another run."""
        return {"schedule": self.lengths}

    def state_dict(self) -> dict[str, Any]:
        """Return how many epochs are closed."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.epoch = state["epoch"]
