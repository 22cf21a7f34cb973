"""Vanilla fusion, RollingQ and the controls over many seeds: training, and the noise tests."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rollingq_core._checks import require_choice
from rollingq_core._extras import needs

with needs("train"):
    from rollingq_core.data import DATASETS
    from rollingq_core.evaluation import attention_contrast, under_noise
    from rollingq_core.evaluation.noise import LEVELS
    from rollingq_core.reproduce import noise
    from rollingq_core.reproduce.parts import compute_records, require_seeds
    from rollingq_core.settings import METHODS, SETTINGS, Run
    from rollingq_core.sweep import sweep

# Seeds trained as one batch, and kept as one part.
TOGETHER = 3
# Settings were chosen on other seeds, 0 to 9; none of these took part.
REPORTING_SEEDS = tuple(range(100, 112))
CURVES = ("air", "query_norm", "share", "gradient_norm", "validation_accuracy", "train_loss")


def summarise(method: str, seed: int, run: Run, modality: str = "audio") -> dict[str, Any]:
    """Return one run's numbers on the test split.

    Parameters
    ----------
    method, seed
        Names of the run.
    run
        The trained model.
    modality
        The modality that noise replaces.
    """
    contrast = attention_contrast(run.model, run.data.test, modality, seed=seed)
    normal, noisy = contrast.share
    response = under_noise(run.model, run.data.test, modality, LEVELS, seed=seed)
    return {
        "method": method,
        "seed": seed,
        "accuracy": response.accuracy.tolist(),
        "shares": response.share[:, contrast.index].tolist(),
        "share_normal": float(normal.mean()),
        "share_noisy": float(noisy.mean()),
        "pearson": contrast.pearson,
        "probe_accuracy": contrast.normal.probe_accuracy,
        "events": [asdict(event) for event in run.events],
        "history": {
            name: [epoch.get(name) for epoch in run.result.history if name in epoch]
            for name in CURVES
        },
    }


# Datasets under another name with options: here, a speaker whom no model has heard in training.
VARIANTS = {"avmnist-new-speaker": ("avmnist", {"held_out_speaker": "theo", "token_noise": 0.0})}
# What is kept of each run, by recipe.
REPORTS: dict[str, Callable[[str, int, Run], dict[str, Any]]] = {
    "comparison": summarise,
    "table2": noise.table2,
    "table3": noise.table3,
    "conflict": noise.conflicts,
    "calibration": noise.calibrations,
}


def report(recipes: tuple[str, ...], method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return one run's numbers, by recipe."""
    return {recipe: REPORTS[recipe](method, seed, run) for recipe in recipes}


def run_seeds(
    recipes: tuple[str, ...], data_name: str, setting_name: str, seeds: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Train and test all methods at some seeds, and return a row each."""
    name, options = VARIANTS.get(data_name, (data_name, {}))
    rows = sweep(
        name,
        SETTINGS[setting_name],
        seeds,
        report=partial(report, recipes),
        methods=METHODS,
        together=2 * len(seeds),
        progress=False,
        **options,
    )
    return sorted(rows, key=lambda r: (seeds.index(r["seed"]), METHODS.index(r["method"])))


def reproduce(
    recipes: tuple[str, ...] = ("comparison",),
    data_name: str = "digits",
    setting_name: str = "P",
    seeds: tuple[int, ...] = REPORTING_SEEDS,
    *,
    out: str | Path,
    jobs: int = 2,
) -> dict[str, dict[str, Any]]:
    """Train every method at every seed, and write a record for each recipe.

    Parameters
    ----------
    recipes
        Some of ``REPORTS``; all are computed from the same trained models.
    data_name, setting_name
        A dataset of :mod:`rollingq_core.data` or of ``VARIANTS``, and a setting of ``SETTINGS``.
    seeds
        One comparison a seed.
    out
        Folder of the records; a call that was cut off goes on where it stopped.
    jobs
        Processes to use.

    Returns
    -------
    dict
        The records by recipe.

    Raises
    ------
    ValueError
        No such recipe, dataset or setting, seeds that are no integers of at least 0 or come twice,
        or ``jobs`` below 1.
    """
    recipes = (recipes,) if isinstance(recipes, str) else tuple(recipes)
    if not recipes or any(recipe not in REPORTS for recipe in recipes):
        raise ValueError(f"recipes: got {list(recipes)}, expected some of {list(REPORTS)}")
    require_choice("data_name", data_name, (*DATASETS, *VARIANTS))
    require_choice("setting_name", setting_name, tuple(SETTINGS))
    seeds = require_seeds(seeds)
    names = {recipe: f"{recipe}-{data_name}-{setting_name}" for recipe in recipes}
    heads = {}
    for recipe, name in names.items():
        head = {
            "recipe": recipe,
            "command": f"python -m rollingq_core reproduce {recipe} --data {data_name} "
            f"--setting {setting_name} --seeds {len(seeds)}",
            "config": {"data": data_name, "setting": setting_name} | asdict(SETTINGS[setting_name]),
            "seeds": list(seeds),
            "levels": list(LEVELS),
        }
        heads[Path(out) / f"{name}.json"] = (head, partial(_of_recipe, recipe))
    groups = [seeds[start : start + TOGETHER] for start in range(0, len(seeds), TOGETHER)]
    parts = {
        "-".join(map(str, group)): (recipes, data_name, setting_name, group) for group in groups
    }
    folder = Path(out) / f"{'-'.join(names.values())}.parts"
    records = compute_records(heads, folder, run_seeds, parts, jobs=jobs)
    return {recipe: records[Path(out) / f"{name}.json"] for recipe, name in names.items()}


def _of_recipe(recipe: str, row: dict[str, Any]) -> dict[str, Any]:
    return (
        {name: row[name] for name in ("method", "seed")}
        | row[recipe]
        | {"data_hash": row["data_hash"]}
    )
