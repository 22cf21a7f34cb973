"""A control: attention made softer or sharper after training, by what the validation split says."""

from typing import Any

from torch.utils.data import Dataset

from rollingq_core._checks import require_integer
from rollingq_core.balancing.length import rotation_of
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import predict
from rollingq_core.training.observer import Observer

# Factors on the query: from a quarter to four times as long, in half octaves.
FACTORS = tuple(2 ** (step / 2) for step in range(-4, 5))


class Temperature(Observer):
    r"""Chooses the temperature of attention after the last epoch of fusion.

    Attention is :math:`\mathrm{softmax}(A / \tau)`, which is a query :math:`1/\tau` times as long.
    Of ``FACTORS`` that one is kept which has the best accuracy on the validation split, then the
    lowest loss. The weights are those of plain training.

    Parameters
    ----------
    epochs
        Epochs of fusion.

    Raises
    ------
    ValueError
        A number of epochs below 1. On starting, a fusion without a rotation.
    """

    name = "temperature"

    def __init__(self, epochs: int) -> None:
        self.epochs = require_integer("epochs", epochs, at_least=1)
        self.epoch = 0

    def require_own(self, model: MultimodalModel) -> None:
        """Raise a ``ValueError`` where there is no query to lengthen."""
        rotation_of(self.name, model)

    def before_validation(self, model: MultimodalModel, validation: Dataset) -> dict[str, Any]:
        """Choose after the last epoch, and return the factor."""
        self.epoch += 1
        if self.epoch < self.epochs:
            return {}
        rotation = rotation_of(self.name, model)
        matrix = rotation.matrix.clone()
        judged = {}
        for factor in FACTORS:
            rotation.matrix.copy_(factor * matrix)
            found = predict(model, validation)
            judged[factor] = found.accuracy, -found.loss
        best = max(FACTORS, key=judged.__getitem__)
        rotation.matrix.copy_(best * matrix)
        return {"query_factor": best}

    @property
    def identity(self) -> dict[str, Any]:
        """The number of epochs after which it chooses."""
        return {"epochs": self.epochs}

    def state_dict(self) -> dict[str, Any]:
        """Return how many epochs are closed."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.epoch = state["epoch"]
