"""What a turn changes, where: parts of the model frozen after it, and the turn taken back."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from rollingq_core._checks import require_choice
from rollingq_core._extras import needs

with needs("train", "data"):
    from rollingq_core.balancing import Frozen
    from rollingq_core.balancing.length import rotation_of
    from rollingq_core.data.sources import load_dataset, require_small
    from rollingq_core.evaluation.masks import masked_accuracy
    from rollingq_core.evaluation.noise import LEVELS
    from rollingq_core.models.multimodal import MultimodalModel
    from rollingq_core.reproduce.reports import deciding
    from rollingq_core.reproduce.resumable import compute_record, require_seeds
    from rollingq_core.reproduce.seeds import REPORTING_SEEDS
    from rollingq_core.runs.run import Run, train
    from rollingq_core.settings import SETTINGS
    from rollingq_core.training.observer import Observer

SEEDS = REPORTING_SEEDS[:8]
# What is frozen after the first turn, by beginnings of the parameters' names.
PARTS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "encoders": ("encoders.",),
    "values and head": ("fusion.v_proj", "fusion.out_proj", "fusion.head"),
    "query and keys": ("fusion.cls", "fusion.q_proj", "fusion.k_proj"),
}
UNDONE = "turns taken back, nothing"
# With every part frozen in turn.
COMPARED = ("mt", "mt+rollingq")


class MaskedWatch(Observer):
    """Tells after each epoch what the fusion answers from each modality alone, on validation."""

    name = "masked"

    def before_validation(self, model: MultimodalModel, validation: Dataset) -> dict[str, Any]:
        """Return accuracy by modality, in [0, 1]."""
        return {"alone": masked_accuracy(model, validation).alone}  # type: ignore[arg-type]


def train_interventions(data_name: str, setting_name: str, seed: int) -> list[dict[str, Any]]:
    """Train vanilla and RollingQ with each part frozen, at one seed, and return a row each."""
    data = load_dataset(data_name, seed=seed)
    learn = partial(train, data=data, setting=setting_name, seed=seed)
    told = partial(_row, data.data_hash, seed)
    rolling = learn("mt+rollingq", observers=[MaskedWatch()])
    matched = learn("mt+random_matched", schedule=rolling.events, observers=[MaskedWatch()])
    rows = [
        told("mt", "nothing", learn("mt", observers=[MaskedWatch()])),
        told("mt+rollingq", "nothing", rolling),
        told("mt+random_matched", "nothing", matched),
    ]
    if rolling.events:
        first = rolling.events[0].epoch
        for part, names in PARTS.items():
            for method in COMPARED if names else ():
                rows.append(told(method, part, learn(method, observers=[Frozen(names, first)])))
    # Last, as it changes the trained model.
    rotation = rotation_of("rolling", rolling.model)
    rotation.matrix.copy_(torch.eye(rotation.dim))
    return [*rows, told("mt+rollingq", UNDONE, rolling)]


def _row(data_hash: str, seed: int, method: str, frozen: str, run: Run) -> dict[str, Any]:
    curves = {
        name: [epoch[name] for epoch in run.result.history if name in epoch]
        for name in ("share", "alone")
    }
    numbers = deciding(method, seed, run) | {"history": curves}
    return {"variant": f"{frozen} frozen", **numbers, "data_hash": data_hash}


def reproduce(
    data_name: str = "digits",
    setting_name: str = "P",
    seeds: Sequence[int] = SEEDS,
    *,
    out: str | Path,
    jobs: int = 2,
) -> dict[str, Any]:
    """Train every intervention at every seed, and write the record.

    Parameters
    ----------
    data_name, setting_name
        One of ``SOURCES`` that is not of full size, or the path of a reader's own file; and one of
        ``SETTINGS``.
    seeds
        One comparison a seed.
    out
        The record to write; a call that was cut off goes on where it stopped.
    jobs
        Processes to use.

    Raises
    ------
    ValueError
        No such dataset or setting, seeds that are no integers of at least 0 or come twice, or
        ``jobs`` below 1.
    """
    require_small("data_name", data_name)
    require_choice("setting_name", setting_name, tuple(SETTINGS))
    seeds = require_seeds(seeds)
    head = {
        "recipe": "interventions",
        "command": f"python -m rollingq_core reproduce interventions --data {data_name} "
        f"--setting {setting_name} --seeds {len(seeds)}",
        "config": {"data": data_name, "setting": setting_name, "parts": PARTS}
        | asdict(SETTINGS[setting_name]),
        "seeds": list(seeds),
        "levels": list(LEVELS),
    }
    chunks = {str(seed): (data_name, setting_name, seed) for seed in seeds}
    return compute_record(out, head, train_interventions, chunks, jobs=jobs)
