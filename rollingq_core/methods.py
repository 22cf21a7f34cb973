"""Every method of the book, one line each: its fusion layer, and what it does in training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from rollingq_core._extras import needs
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.concat import ConcatFusion
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.rolling import RollingQ, Rotation, RotationEvent
from rollingq_core.settings import Setting

with needs("train"):
    from rollingq_core.balancing import OGM, PMR, Rolling
    from rollingq_core.training.observer import Observer

Schedule = Sequence[RotationEvent] | None
# From an untrained model, its setting, its seed and the events to follow.
Observers = Callable[[MultimodalModel, Setting, int, Schedule], list[Observer]]


def attention(shape: FusionShape) -> AttentionFusion:
    """Return attention fusion of a shape."""
    return AttentionFusion.of_shape(shape)


def none(*_: object) -> list[Observer]:
    """Return no observer: plain training."""
    return []


def rolling(
    model: MultimodalModel,
    setting: Setting,
    seed: int,
    schedule: Schedule = None,
    *,
    rotation: Rotation = "minimal",
) -> list[Observer]:
    """Return Algorithm 1, or a control that turns elsewhere."""
    rollingq = RollingQ(
        model.fusion,
        setting.rho,
        setting.beta,
        setting.max_rotations,
        start_epoch=setting.start_epoch,
        spacing=setting.spacing,
        rotation=rotation,
        schedule=schedule,
        seed=seed,
    )
    return [Rolling(rollingq)]


def ogm(
    model: MultimodalModel, setting: Setting, seed: int, schedule: Schedule = None, **options
) -> list[Observer]:
    """Return gradient modulation; ``options`` are those of the observer."""
    return [OGM(model, seed=seed, **options)]


def pmr(
    model: MultimodalModel, setting: Setting, seed: int, schedule: Schedule = None
) -> list[Observer]:
    """Return prototypes."""
    return [PMR(seed=seed, batch_size=setting.training.batch_size)]


@dataclass(frozen=True)
class Method:
    """What a method is: how modalities are fused, and what happens in training.

    Parameters
    ----------
    label
        Its name in figures and tables.
    fusion
        From a :class:`FusionShape` to the fusion layer.
    observers
        From the untrained model, its setting, its seed and a schedule to its observers.
    modalities
        Those of a dataset that it uses; all by default.
    turns
        Whether RollingQ's numbers (rho, beta and so on) say anything to it.
    follows
        The method whose rotations it repeats at the same seed (the random controls).

    Examples
    --------
    >>> METHODS["mt+rollingq"].label
    'RollingQ'
    """

    label: str
    fusion: Callable[[FusionShape], nn.Module] = attention
    observers: Observers = none
    modalities: tuple[str, ...] | None = None
    turns: bool = False
    follows: str | None = None


UNIFORM = partial(AttentionFusion.of_shape, mode="uniform")
MATCHED = partial(rolling, rotation="random_matched")
FREE = partial(rolling, rotation="random_free")

METHODS = {
    "unimodal-audio": Method("audio alone", ConcatFusion.of_shape, modalities=("audio",)),
    "unimodal-visual": Method("vision alone", ConcatFusion.of_shape, modalities=("visual",)),
    "unimodal-text": Method("text alone", ConcatFusion.of_shape, modalities=("text",)),
    "concat": Method("concat", ConcatFusion.of_shape),
    "ogm": Method("OGM", ConcatFusion.of_shape, ogm),
    "ogm-ge": Method("OGM-GE", ConcatFusion.of_shape, partial(ogm, noise=True)),
    "pmr": Method("PMR", ConcatFusion.of_shape, pmr),
    "mt": Method("vanilla"),
    "mt+rollingq": Method("RollingQ", observers=rolling, turns=True),
    "mt+random_matched": Method(
        "random, same angle", observers=MATCHED, turns=True, follows="mt+rollingq"
    ),
    "mt+random_free": Method("random, free", observers=FREE, turns=True, follows="mt+rollingq"),
    "uniform": Method("uniform", UNIFORM),
}
# Of attention fusion, and the controls: what most chapters compare.
DYNAMIC = ("mt", "mt+rollingq", "mt+random_matched", "mt+random_free", "uniform")


def methods_for(modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the methods that data of these modalities can train."""
    return tuple(
        name for name, method in METHODS.items() if set(method.modalities or ()) <= set(modalities)
    )
