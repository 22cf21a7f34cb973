"""What tuning changes: vanilla's training and RollingQ's numbers, chosen on validation splits."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from rollingq_core._checks import require_choice
from rollingq_core._extras import needs
from rollingq_core.settings import SETTINGS, Setting

with needs("train", "data"):
    import numpy as np

    from rollingq_core.data.sources import require_small
    from rollingq_core.evaluation.noise import LEVELS
    from rollingq_core.reproduce.reports import accuracies
    from rollingq_core.reproduce.resumable import compute_record, require_seeds
    from rollingq_core.reproduce.seeds import REPORTING_SEEDS, TUNING_SEEDS
    from rollingq_core.runs.run import Run
    from rollingq_core.runs.sweep import sweep

# Factors on the learning rate; the class token's deviation; the weight decay.
TRAINING: dict[str, tuple[float, ...]] = {
    "lr": (1 / 3, 1.0, 3.0),
    "cls_std": (0.02, 0.3, 1.0),
    "weight_decay": (1e-4, 1e-3),
}
ROLLING: dict[str, tuple[float, ...]] = {
    "rho": (1.0, 3.0),
    "beta": (0.05, 0.2),
    "max_rotations": (1, 3, 6, 10),
}
COMPARED = ("mt", "mt+rollingq")
Choice = Mapping[str, float]


def changed(setting: Setting, choice: Choice) -> Setting:
    """Return a setting with a choice of ``TRAINING``: its numbers, the learning rate's a factor."""
    training = replace(
        setting.training,
        lr=setting.training.lr * choice["lr"],
        weight_decay=choice["weight_decay"],
    )
    return replace(setting, training=training, cls_std=choice["cls_std"])


def search(data_name: str, setting_name: str, seed: int) -> list[dict[str, Any]]:
    """Train vanilla in each way of ``TRAINING``, and RollingQ in each of ``ROLLING``."""
    setting, rows = SETTINGS[setting_name], []
    for values in product(*TRAINING.values()):
        choice = dict(zip(TRAINING, values, strict=True))
        own = changed(setting, choice)
        told = sweep(data_name, own, [seed], report=_validated, methods=["mt"], progress=False)
        rows += [{"choice": choice, **row} for row in told]
    told = sweep(data_name, setting, [seed], report=_validated, over=ROLLING, progress=False)
    rows += [{"choice": {name: row[name] for name in ROLLING}, **row} for row in told]
    return rows


def _validated(method: str, seed: int, run: Run) -> dict[str, Any]:
    return {"validation_accuracy": run.result.history[-1]["validation_accuracy"]}


def best(rows: Sequence[Mapping[str, Any]], method: str) -> dict[str, float]:
    """Return a method's choice with the best mean accuracy on the validation splits.

    Of several, the first in the order of the grids.
    """
    found: dict[tuple[tuple[str, float], ...], list[float]] = {}
    for row in rows:
        if row["method"] == method:
            found.setdefault(tuple(row["choice"].items()), []).append(row["validation_accuracy"])
    means = {choice: float(np.mean(values)) for choice, values in found.items()}
    return dict(max(means.items(), key=lambda item: item[1])[0])


def report(
    data_name: str, setting_name: str, training: Choice, rolling: Choice, seed: int
) -> list[dict[str, Any]]:
    """Train vanilla and RollingQ as they were, and with either or both tuned, at a seed."""
    plain = SETTINGS[setting_name]
    numbers = {"rho": rolling["rho"], "beta": rolling["beta"]}
    numbers["max_rotations"] = int(rolling["max_rotations"])  # type: ignore[assignment]
    ways = {
        "as it was": plain,
        "training tuned": changed(plain, training),
        "RollingQ tuned": replace(plain, **numbers),  # type: ignore[arg-type]
        "both tuned": replace(changed(plain, training), **numbers),  # type: ignore[arg-type]
    }
    rows = []
    for name, setting in ways.items():
        told = sweep(
            data_name, setting, [seed], report=accuracies, methods=COMPARED, progress=False
        )
        rows += [{"variant": name, **row} for row in told]
    return rows


def reproduce(
    data_name: str = "digits",
    setting_name: str = "P",
    seeds: Sequence[int] = REPORTING_SEEDS,
    *,
    out: str | Path,
    jobs: int = 2,
    tuning_seeds: Sequence[int] = TUNING_SEEDS,
) -> dict[str, Any]:
    """Choose on the tuning seeds, report on others, and write both records.

    Parameters
    ----------
    data_name, setting_name
        One of ``SOURCES`` that is not of full size, or the path of a reader's own file; and one of
        ``SETTINGS``.
    seeds, tuning_seeds
        Those that are reported on, and those that are chosen on; none is both.
    out
        The record to write; that of the search stands beside it, with ``-search`` in its name. A
        call that was cut off goes on where it stopped.
    jobs
        Processes to use.

    Raises
    ------
    ValueError
        No such dataset or setting, seeds that are no integers of at least 0, come twice or are
        both, or ``jobs`` below 1.
    """
    require_small("data_name", data_name)
    require_choice("setting_name", setting_name, tuple(SETTINGS))
    seeds, tuning_seeds = require_seeds(seeds), require_seeds(tuning_seeds)
    if both := sorted({*seeds} & {*tuning_seeds}):
        raise ValueError(f"seeds: got {both} in tuning_seeds, too, expected others")
    out = Path(out)
    setting = asdict(SETTINGS[setting_name])
    config = {"data": data_name, "setting": setting_name, **setting}
    command = (
        f"python -m rollingq_core reproduce tuning --data {data_name} --setting {setting_name} "
        f"--seeds {len(seeds)}"
    )
    grids = {"training": TRAINING, "rolling": ROLLING}
    head = {"recipe": "tuning_search", "command": command, "config": config | grids}
    found = compute_record(
        out.with_stem(f"{out.stem}-search"),
        head | {"seeds": list(tuning_seeds)},
        search,
        {str(seed): (data_name, setting_name, seed) for seed in tuning_seeds},
        jobs=jobs,
    )
    training, rolling = (best(found["runs"], method) for method in COMPARED)
    chosen = {"training": training, "rolling": rolling}
    head = {"recipe": "tuning", "command": command, "config": config | chosen}
    return compute_record(
        out,
        head | {"seeds": list(seeds), "levels": list(LEVELS)},
        report,
        {str(seed): (data_name, setting_name, training, rolling, seed) for seed in seeds},
        jobs=jobs,
    )
