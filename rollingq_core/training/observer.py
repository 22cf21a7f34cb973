"""What may watch a training, or take a hand in it, beside the loop."""

from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from rollingq_core._checks import require_finite
from rollingq_core.air import Expectation, RunningExpectation
from rollingq_core.models.multimodal import ModelOutput, MultimodalModel

# Names in a checkpoint that are not an observer's.
RESERVED = frozenset(
    [
        "model",
        "optimizer",
        "scheduler",
        "precision",
        "training",
        "data_hash",
        "modalities",
        "fusion",
        "observers",
        "options",
    ]
)


class Observer:
    """A method's part in training; each hook does nothing until a subclass says what.

    The loop calls the hooks in the epochs of fusion, in this order: :meth:`start` before the
    first; for each batch :meth:`extra_loss`, :meth:`on_gradients`, :meth:`on_batch`; and
    :meth:`end_epoch` and :meth:`before_validation` after the last batch, so that what is judged and
    kept is the model as the observer leaves it.

    Attributes
    ----------
    name
        What its state is called in a checkpoint; no two observers of a training share one.
    watches_attention
        Whether :meth:`end_epoch` tells ``air``, ``query_norm`` and ``cosines``.
    stacks
        Whether replicas may be trained as one batch with it: it has no part in losses, gradients
        or data, and reads of a batch only the sums of :class:`rollingq_core.air.RunningExpectation`
        (as ``running``).
    leaves_out
        Whether some of the model's parameters may take no part in a step, by what it does.

    Examples
    --------
    >>> class Batches(Observer):
    ...     name, count = "batches", 0
    ...
    ...     def on_batch(self, output):
    ...         self.count += 1
    """

    name = "observer"
    watches_attention = False
    stacks = False
    leaves_out = False

    def require_own(self, model: MultimodalModel) -> None:
        """Raise a ``ValueError`` where this observer was made for another model."""

    def start(self, model: MultimodalModel, train: Dataset) -> None:
        """Be told of the model and the training split before the first epoch of fusion."""

    def extra_loss(self, output: ModelOutput, labels: Tensor) -> Tensor | None:
        """Return what to add to a batch's mean loss, a scalar; None adds nothing.

        ``output`` is in the gradient's graph; ``labels`` are ``[B]``. Of a batch that is cut into
        pieces, each piece is one.
        """
        return None

    def on_gradients(self, model: MultimodalModel, output: ModelOutput, labels: Tensor) -> None:
        """See or change the batch's gradients, before they are clipped and used.

        ``output`` is detached. Where several processes train, the gradients are already those of
        the whole batch, and ``output`` and ``labels`` this process's part, which may be empty.
        """

    def on_batch(self, output: ModelOutput) -> None:
        """See the batch's output, detached, after the step."""

    def end_epoch(self, model: MultimodalModel, train: Dataset) -> dict[str, Any]:
        """Act between two epochs, and return what the history keeps of this one."""
        return {}

    def before_validation(self, model: MultimodalModel, validation: Dataset) -> dict[str, Any]:
        """See the validation split before the epoch is judged on it; what changes the model counts.

        What is returned is kept in the history, too. Replicas trained as one batch leave it out.
        """
        return {}

    @property
    def identity(self) -> dict[str, Any]:
        """Options that two runs must share for one to go on from the other's checkpoint."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved with a checkpoint: tensors, numbers and strings."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""


class AttentionWatch(Observer):
    """Watches where the query points (Eq. 9), as RollingQ does, and never turns it."""

    name = "attention"
    watches_attention = True
    stacks = True
    estimate = "epoch"

    def __init__(self) -> None:
        self.running = RunningExpectation()

    def on_batch(self, output: ModelOutput) -> None:
        """Add the batch to the epoch's expectations."""
        assert output.fusion is not None  # as observers act in the epochs of fusion
        self.running.update(output.fusion.query, output.fusion.mean_keys)

    def end_epoch(self, model: MultimodalModel, train: Dataset) -> dict[str, Any]:
        """Return the epoch's lean, and no rotation."""
        seen, self.running = self.running.compute(), RunningExpectation()
        if seen is not None:
            require_finite("output.query", seen.query)
            require_finite("output.mean_keys", seen.mean_keys)
        return lean(seen, model.modalities) | {"rotation": None}


def lean(seen: Expectation | None, modalities: tuple[str, ...]) -> dict[str, Any]:
    """Return what the history keeps of an epoch's expectations.

    Where no sample had a token in every modality there is nothing to expect: ``air``,
    ``query_norm`` and each modality's cosine are None.
    """
    cosines = [None] * len(modalities) if seen is None else seen.cosines.tolist()
    return {
        "air": None if seen is None else seen.air,
        "query_norm": None if seen is None else float(seen.query.norm()),
        "cosines": dict(zip(modalities, cosines, strict=True)),
    }


def watched(model: MultimodalModel, observers: tuple[Observer, ...]) -> tuple[Observer, ...]:
    """Return the observers, with one that watches attention where the model has some and none does.

    Raises
    ------
    ValueError
        Two observers have one name.
    """
    observers = tuple(observers)
    if not any(observer.watches_attention for observer in observers) and attends(model):
        observers = (*observers, AttentionWatch())
    names = [observer.name for observer in observers]
    if len(set(names)) < len(names):
        raise ValueError(f"observers: got names {names}, expected each once: set their `name`")
    if taken := RESERVED.intersection(names):
        raise ValueError(f"observers: got names {sorted(taken)}, which a checkpoint uses itself")
    return observers


def attends(model: MultimodalModel) -> bool:
    """Return whether the model's fusion has a query that turns: attention to watch."""
    return isinstance(getattr(model.fusion, "rotation", None), nn.Module)


def attention_mode(model: MultimodalModel) -> str | None:
    """Return the fusion's kind of attention, where it has several."""
    return getattr(model.fusion, "mode", None)
