"""One run: any method on any dataset, in a setting, from a seed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rollingq_core._checks import require_choice
from rollingq_core._extras import needs
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.rolling import RotationEvent
from rollingq_core.settings import SETTINGS, Setting, TrainingConfig

with needs("train", "data"):
    from rollingq_core.data.dataset import DataSplits
    from rollingq_core.data.sources import load_dataset
    from rollingq_core.evaluation.answers import modalities_of
    from rollingq_core.methods import METHODS, Method, Schedule
    from rollingq_core.models.small import build_model
    from rollingq_core.training.loop import TrainingResult, fit
    from rollingq_core.training.observer import Observer


class Run(NamedTuple):
    """A trained model with its data, history and rotations."""

    model: MultimodalModel
    data: DataSplits
    result: TrainingResult
    events: list[RotationEvent]

    @property
    def favoured(self) -> str:
        """The modality that the noise tests disturb: the data's favoured one, or its first."""
        return self.data.favoured or modalities_of(self.data.test)[0]

    @property
    def lengths(self) -> list[float]:
        """The length of the expected query in each epoch of fusion, where there is attention."""
        told = (epoch.get("query_norm") for epoch in self.result.history)
        return [length for length in told if length is not None]

    def schedule_for(self, method: str) -> Sequence[RotationEvent] | Sequence[float]:
        """Return what a method that follows this run repeats of it."""
        return self.lengths if METHODS[method].repeats == "lengths" else self.events


class Prepared(NamedTuple):
    """A run that has not begun: an untrained model, how to train it, and what has a part in it."""

    model: MultimodalModel
    config: TrainingConfig
    observers: list[Observer]


def prepare(
    method: str | Method,
    data: DataSplits,
    setting: Setting,
    seed: int,
    schedule: Schedule = None,
    build: Callable[..., MultimodalModel] = build_model,
) -> Prepared:
    """Return what :func:`train` is about to train.

    Its arguments are the same, and ``method`` may also be one of no name; ``build`` makes the
    model, as :func:`rollingq_core.models.small.build_model` does.
    """
    if not isinstance(method, Method):
        require_choice("method", method, tuple(METHODS))
        method = METHODS[method]
    chosen = method
    model = build(data, setting, seed, fusion=chosen.fusion, modalities=chosen.modalities)
    observers = chosen.observers(model, setting, seed, schedule)
    return Prepared(model, replace(setting.training, seed=seed), observers)


def train(
    method: str,
    data: DataSplits | str | Path,
    *,
    setting: Setting | str = "P",
    seed: int = 0,
    schedule: Schedule = None,
    **options: Any,
) -> Run:
    """Train one model; at the same seed methods share data order and, of one kind, weights.

    Parameters
    ----------
    method
        One of ``METHODS``.
    data
        What to train on: splits, or what :func:`rollingq_core.data.load_dataset` knows by name,
        which is drawn with the same seed.
    setting
        A setting, or the name of one of ``SETTINGS``.
    seed
        Seed of weights, order and random directions.
    schedule
        For the controls: what they repeat of another run, ``run.schedule_for(method)``. Without it
        a control that turns does so where RollingQ would, and one that repeats lengths first trains
        the run that it follows.
    **options
        Passed to :func:`rollingq_core.training.fit`, for example ``progress=True``. ``observers``
        are those beside the method's own.

    Raises
    ------
    ValueError
        No such method or setting, or data without a modality that the method needs.

    Examples
    --------
    >>> from dataclasses import replace
    >>> quick = replace(SETTINGS["T"], training=replace(SETTINGS["T"].training, epochs=1))
    >>> data = load_dataset("synthetic", train_samples=60, test_samples=20)
    >>> run = train("mt+rollingq", data, setting=quick)
    >>> len(run.result.history), run.favoured
    (1, 'audio')
    """
    if isinstance(setting, str):
        require_choice("setting", setting, tuple(SETTINGS))
        setting = SETTINGS[setting]
    if not isinstance(setting, Setting):
        raise ValueError(f"setting: got {type(setting).__name__}, expected a Setting or a name")
    if isinstance(data, str | Path):
        data = load_dataset(str(data), seed=seed)
    if not isinstance(data, DataSplits):
        raise ValueError(f"data: got {type(data).__name__}, expected DataSplits or a name")
    chosen = setting
    if schedule is None:
        schedule = lengths_for(
            method, lambda leader: train(leader, data, setting=chosen, seed=seed)
        )
    model, config, observers = prepare(method, data, setting, seed, schedule)
    observers = [*observers, *options.pop("observers", ())]
    with one_thread():
        result = fit(model, data, config, observers=observers, **options)
    return Run(model, data, result, events_of(observers))


def lengths_for(method: str, train_leader: Callable[[str], Run]) -> list[float] | None:
    """Return the lengths that a method repeats, of a run trained for it; None where it has none."""
    require_choice("method", method, tuple(METHODS))
    leader = METHODS[method].follows
    if leader is None or METHODS[method].repeats != "lengths":
        return None
    return train_leader(leader).lengths


def events_of(observers: Sequence[Observer]) -> list[RotationEvent]:
    """Return the rotations of a run's observers."""
    return [event for observer in observers for event in getattr(observer, "events", ())]


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread: on matrices this small, a second one is only waited for.

    It also makes the result independent of the number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
