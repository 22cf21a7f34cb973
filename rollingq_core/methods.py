"""Every method of the book, one line each: its fusion layer, and what it does in training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from torch import nn

from rollingq_core._extras import needs
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.concat import ConcatFusion
from rollingq_core.fusion.jmt import JointFusion
from rollingq_core.fusion.mbt import BottleneckFusion
from rollingq_core.fusion.mmml import CrossStreamFusion
from rollingq_core.fusion.modality_dropout import ModalityDropout
from rollingq_core.fusion.mult import CrossmodalFusion
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.fusion.stack import StackFusion
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.rolling import Estimate, RollingQ, Rotation, RotationEvent
from rollingq_core.settings import Setting

with needs("train"):
    from rollingq_core.balancing import (
        OGM,
        PMR,
        MatchedLength,
        Progressive,
        Rolling,
        Temperature,
        UnimodalLosses,
    )
    from rollingq_core.training.observer import Observer

# Of another run: its rotations (RotationEvent), or its query's length in each epoch of fusion.
Schedule = Sequence[Any] | None
# From an untrained model, its setting, its seed and what to follow of another run.
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
    estimate: Estimate = "epoch",
) -> list[Observer]:
    """Return Algorithm 1, or a control that turns elsewhere."""
    return [Rolling(_rollingq(model.fusion, setting, seed, schedule, rotation, estimate))]


def midpoint(
    model: MultimodalModel, setting: Setting, seed: int, schedule: Schedule = None
) -> list[Observer]:
    """Return Algorithm 1 with an anchor that favours no modality: alpha is 1/2 where rho is 0."""
    return rolling(model, replace(setting, rho=1e-12), seed)


def matched_length(
    model: MultimodalModel, setting: Setting, seed: int, schedule: Schedule = None
) -> list[Observer]:
    """Return the lengths of another run's query, and no turn."""
    return [MatchedLength(schedule)]


def restored(
    model: MultimodalModel, setting: Setting, seed: int, schedule: Schedule = None
) -> list[Observer]:
    """Return Algorithm 1 with a query as long as another run's."""
    return [*matched_length(model, setting, seed, schedule), *rolling(model, setting, seed)]


def temperature(
    model: MultimodalModel, setting: Setting, seed: int, schedule: Schedule = None
) -> list[Observer]:
    """Return a temperature chosen after the last epoch."""
    return [Temperature(setting.training.epochs)]


def progressive(
    model: MultimodalModel,
    setting: Setting,
    seed: int,
    schedule: Schedule = None,
    *,
    rotation: Rotation = "minimal",
    turns: bool = True,
) -> list[Observer]:
    """Return progressive training of a stack: a third of fusion's epochs for each earlier block.

    With ``turns``, RollingQ (or a control) acts on the block in use; without, it only watches.
    """
    assert isinstance(model.fusion, StackFusion)  # as the methods below have it
    epochs = setting.training.epochs // 3
    own = setting if turns else replace(setting, max_rotations=0)
    rollings = []
    layers = model.fusion.rotations
    for block, layer in enumerate(layers):
        start = block * epochs
        end = start + epochs if block + 1 < len(layers) else setting.training.epochs
        events = None if schedule is None else _between(schedule, start, end)
        rollings.append(_rollingq(layer, own, seed + block, events, rotation))
    return [Progressive(rollings, epochs)]


def _between(events: Sequence[RotationEvent], start: int, end: int) -> list[RotationEvent]:
    """Return the events of the epochs from ``start`` to before ``end``, counted from there."""
    own = [event for event in events if start <= event.epoch < end]
    return [replace(event, epoch=event.epoch - start) for event in own]


def _rollingq(
    layer: nn.Module,
    setting: Setting,
    seed: int,
    schedule: Schedule,
    rotation: Rotation,
    estimate: Estimate = "epoch",
) -> RollingQ:
    return RollingQ(
        layer,
        setting.rho,
        setting.beta,
        setting.max_rotations,
        start_epoch=setting.start_epoch,
        spacing=setting.spacing,
        estimate=estimate,
        rotation=rotation,
        schedule=schedule,
        seed=seed,
    )


def unimodal_losses(
    model: MultimodalModel, setting: Setting, seed: int, schedule: Schedule = None
) -> list[Observer]:
    """Return MMML's losses of single modalities."""
    return [UnimodalLosses(model)]


def rolling_with_losses(
    model: MultimodalModel,
    setting: Setting,
    seed: int,
    schedule: Schedule = None,
    *,
    rotation: Rotation = "minimal",
) -> list[Observer]:
    """Return Algorithm 1, or a control, beside MMML's losses of single modalities."""
    return [UnimodalLosses(model), *rolling(model, setting, seed, schedule, rotation=rotation)]


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
        The method whose run at the same seed it repeats something of (the controls).
    repeats
        What that is.

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
    repeats: Literal["rotations", "lengths"] = "rotations"


UNIFORM = partial(AttentionFusion.of_shape, mode="uniform")
MATCHED = partial(rolling, rotation="random_matched")
FREE = partial(rolling, rotation="random_free")
AWAY = partial(rolling, rotation="away")
STILL = partial(progressive, turns=False)
# With one class token over all streams, whose query can be turned.
MULT_JOINT = partial(CrossmodalFusion.of_shape, joint=True)
MMML_JOINT = partial(CrossStreamFusion.of_shape, joint=True)

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
    "mt+away": Method("away, same angle", observers=AWAY, turns=True, follows="mt+rollingq"),
    "mt+midpoint": Method("to the midpoint", observers=midpoint, turns=True),
    "mt+norm_matched": Method(
        "RollingQ's length",
        observers=matched_length,
        turns=True,
        follows="mt+rollingq",
        repeats="lengths",
    ),
    "mt+rollingq_restored": Method(
        "RollingQ, vanilla's length",
        observers=restored,
        turns=True,
        follows="mt",
        repeats="lengths",
    ),
    "mt+temperature": Method("vanilla, temperature", observers=temperature),
    "mt+modality_dropout": Method("modality dropout", ModalityDropout.of_shape),
    "uniform": Method("uniform", UNIFORM),
    "mt2": Method("two layers", StackFusion.of_shape),
    "mt2+rollingq": Method("two layers, RollingQ", StackFusion.of_shape, progressive, turns=True),
    "mt2+progressive": Method("two layers, one by one", StackFusion.of_shape, STILL),
    "mt2+random_matched": Method(
        "two layers, random, same angle",
        StackFusion.of_shape,
        partial(progressive, rotation="random_matched"),
        turns=True,
        follows="mt2+rollingq",
    ),
    "mult": Method("MulT", CrossmodalFusion.of_shape),
    "mult-joint": Method("MulT, joint attention", MULT_JOINT),
    "mult+rollingq": Method("MulT, RollingQ", MULT_JOINT, rolling, turns=True),
    "mult+random_matched": Method(
        "MulT, random, same angle", MULT_JOINT, MATCHED, turns=True, follows="mult+rollingq"
    ),
    "mbt": Method("MBT", BottleneckFusion.of_shape),
    "jmt": Method("JMT", JointFusion.of_shape),
    "mmml": Method("MMML", CrossStreamFusion.of_shape, unimodal_losses),
    "mmml-joint": Method("MMML, joint attention", MMML_JOINT, unimodal_losses),
    "mmml+rollingq": Method("MMML, RollingQ", MMML_JOINT, rolling_with_losses, turns=True),
    "mmml+random_matched": Method(
        "MMML, random, same angle",
        MMML_JOINT,
        partial(rolling_with_losses, rotation="random_matched"),
        turns=True,
        follows="mmml+rollingq",
    ),
}
# Of attention fusion, and the controls: what most chapters compare.
DYNAMIC = ("mt", "mt+rollingq", "mt+random_matched", "mt+random_free", "uniform")
# What tells apart why a turn helps.
DECIDING = (
    *("mt", "mt+rollingq", "mt+random_matched", "mt+away", "mt+midpoint", "uniform"),
    *("mt+norm_matched", "mt+rollingq_restored", "mt+temperature", "mt+modality_dropout"),
)


def methods_for(modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the methods that data of these modalities can train."""
    return tuple(
        name for name, method in METHODS.items() if set(method.modalities or ()) <= set(modalities)
    )
