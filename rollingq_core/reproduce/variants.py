"""Tables 5, 6, 7 and 11: the same methods in models or trainings that differ in one thing."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rollingq_core._checks import require_choice
from rollingq_core._extras import needs
from rollingq_core.fusion import AttentionFusion, EarlyFusion

with needs("train", "data"):
    from rollingq_core.data.sources import load_dataset, require_small
    from rollingq_core.evaluation.noise import LEVELS
    from rollingq_core.methods import METHODS, Method, rolling
    from rollingq_core.models.built import build_resnet_model, build_vit_model
    from rollingq_core.models.small import build_model
    from rollingq_core.reproduce.reports import CURVES, accuracies
    from rollingq_core.reproduce.resumable import compute_record, require_seeds
    from rollingq_core.reproduce.seeds import REPORTING_SEEDS
    from rollingq_core.rolling import RotationEvent
    from rollingq_core.runs.run import Run, events_of, one_thread, prepare
    from rollingq_core.settings import SETTINGS, Setting
    from rollingq_core.training.loop import fit

# In this order, as the control repeats the turns of the run before.
COMPARED = ("mt", "mt+rollingq", "mt+random_matched")
SEEDS = REPORTING_SEEDS[:5]


@dataclass(frozen=True)
class Variant:
    """One model or training in which methods are compared.

    Parameters
    ----------
    setting
        How it is trained.
    build
        Makes the model, as :func:`rollingq_core.models.small.build_model` does.
    change
        What becomes of each method.
    """

    setting: Setting
    build: Callable[..., Any] = build_model
    change: Callable[[Method], Method] = lambda method: method


def _with_fusion(fusion: Callable[..., Any], method: Method) -> Method:
    return replace(method, fusion=fusion)


def _turning(options: Mapping[str, Any], method: Method) -> Method:
    """Return RollingQ with other options; the rest as they are."""
    if method is not METHODS["mt+rollingq"]:
        return method
    return replace(method, observers=partial(rolling, **options))


P = SETTINGS["P"]
TWO_HEADS = partial(AttentionFusion.of_shape, num_heads=2)
VIT = P
# The convolutions cost several times as much as anything else here.
RESNET = replace(P, training=replace(P.training, epochs=20, pretrain_epochs=10))


def _early(first: int) -> Variant:
    """Return fusion from a block of a backbone of four on."""
    fusion = partial(EarlyFusion.of_shape, first=first)
    build = partial(build_vit_model, depth=first - 1)
    return Variant(VIT, build, partial(_with_fusion, fusion))


VARIANTS: dict[str, dict[str, Variant]] = {
    "table5": {
        "six turns": Variant(P),
        "three turns": Variant(replace(P, max_rotations=3)),
        "one turn": Variant(replace(P, max_rotations=1)),
        "last batch": Variant(P, change=partial(_turning, {"estimate": "last_batch"})),
        "SVD": Variant(P, change=partial(_turning, {"rotation": "svd"})),
        "two heads": Variant(P, change=partial(_with_fusion, TWO_HEADS)),
    },
    "table6": {
        f"{depth} blocks": Variant(VIT, partial(build_vit_model, depth=depth))
        for depth in (2, 4, 6)
    },
    "table7": {"ResNet18": Variant(RESNET, build_resnet_model)},
    "table11": {
        "after block 4": Variant(VIT, partial(build_vit_model, depth=4)),
        "from block 4": _early(4),
        "from block 3": _early(3),
        "from block 2": _early(2),
    },
}


def train_variant(recipe: str, name: str, data_name: str, seed: int) -> list[dict[str, Any]]:
    """Train and test the compared methods in one variant at one seed, and return a row each."""
    variant = VARIANTS[recipe][name]
    data = load_dataset(data_name, seed=seed)
    rows: list[dict[str, Any]] = []
    schedule: list[RotationEvent] | None = None
    for method in COMPARED:
        own = variant.change(METHODS[method])
        follows = schedule if own.follows else None
        model, config, observers = prepare(
            own, data, variant.setting, seed, follows, build=variant.build
        )
        with one_thread():
            result = fit(model, data, config, observers=observers)
            run = Run(model, data, result, events_of(observers))
            told = accuracies(method, seed, run)
        if method == "mt+rollingq":
            schedule = run.events
        history = {
            curve: [epoch.get(curve) for epoch in result.history if curve in epoch]
            for curve in CURVES
        }
        about = {"variant": name, "method": method, "seed": seed}
        rows.append(about | told | {"history": history, "data_hash": data.data_hash})
    return rows


def reproduce(
    recipe: str,
    data_name: str = "digits",
    seeds: tuple[int, ...] = SEEDS,
    *,
    out: str | Path,
    jobs: int = 2,
) -> dict[str, Any]:
    """Train the compared methods in every variant of a table, and write the record.

    Parameters
    ----------
    recipe
        One of ``VARIANTS``.
    data_name
        One of ``SOURCES`` that is not of full size, or the path of a reader's own file.
    seeds
        One comparison a seed.
    out
        The record to write; a call that was cut off goes on where it stopped.
    jobs
        Processes to use.

    Raises
    ------
    ValueError
        No such recipe or dataset, seeds that are no integers of at least 0 or come twice, or
        ``jobs`` below 1.
    """
    require_choice("recipe", recipe, tuple(VARIANTS))
    require_small("data_name", data_name)
    seeds = require_seeds(seeds)
    settings = {name: asdict(variant.setting) for name, variant in VARIANTS[recipe].items()}
    head = {
        "recipe": recipe,
        "command": f"python -m rollingq_core reproduce {recipe} --data {data_name} "
        f"--seeds {len(seeds)}",
        "config": {"data": data_name, "methods": list(COMPARED), "settings": settings},
        "seeds": list(seeds),
        "levels": list(LEVELS),
    }
    chunks = {
        f"{index}-{seed}": (recipe, name, data_name, seed)
        for index, name in enumerate(VARIANTS[recipe])
        for seed in seeds
    }
    return compute_record(out, head, train_variant, chunks, jobs=jobs)
