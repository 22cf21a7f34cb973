"""Methods over many seeds: training once, and a record for each recipe."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rollingq_core._checks import require_choice
from rollingq_core._extras import needs

with needs("train", "data"):
    from rollingq_core.data.sources import load_dataset, require_small
    from rollingq_core.evaluation.noise import LEVELS
    from rollingq_core.methods import METHODS
    from rollingq_core.models.small import input_shapes
    from rollingq_core.reproduce.recipes import RECIPES
    from rollingq_core.reproduce.reports import Report
    from rollingq_core.reproduce.resumable import compute_records, require_seeds
    from rollingq_core.reproduce.seeds import FEWER, REPORTING_SEEDS
    from rollingq_core.runs.run import Run
    from rollingq_core.runs.sweep import sweep
    from rollingq_core.settings import SETTINGS

# Seeds trained as one batch, and kept as one chunk.
SEEDS_A_BATCH = 3


def report(reports: Mapping[str, Report], method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return one run's numbers, by recipe."""
    return {recipe: keep(method, seed, run) for recipe, keep in reports.items()}


def run_seeds(
    reports: Mapping[str, Report],
    methods: tuple[str, ...],
    data_name: str,
    setting_name: str,
    seeds: tuple[int, ...],
) -> list[dict[str, Any]]:
    """Train and test methods at some seeds, and return a row each."""
    rows = sweep(
        data_name,
        SETTINGS[setting_name],
        seeds,
        report=partial(report, reports),
        methods=methods,
        batch=2 * len(seeds),
        progress=False,
    )
    return sorted(rows, key=lambda r: (seeds.index(r["seed"]), methods.index(r["method"])))


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
        Some of ``RECIPES`` that have a report, of the same methods; all are computed from the same
        trained models.
    data_name, setting_name
        One of ``SOURCES`` that is not of full size, or the path of a reader's own file; and a
        setting of ``SETTINGS``.
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
    known = [name for name, recipe in RECIPES.items() if recipe.report]
    if not recipes or any(recipe not in known for recipe in recipes):
        raise ValueError(f"recipes: got {list(recipes)}, expected some of {known}")
    if len({(RECIPES[recipe].methods, RECIPES[recipe].fewer) for recipe in recipes}) > 1:
        raise ValueError(f"recipes: got {list(recipes)}, which train different methods")
    require_small("data_name", data_name)
    require_choice("setting_name", setting_name, tuple(SETTINGS))
    seeds = require_seeds(seeds)
    names = {recipe: record_name(recipe, data_name, setting_name) for recipe in recipes}
    methods = trainable(RECIPES[recipes[0]].methods, data_name, seeds[0])
    reports = {recipe: RECIPES[recipe].report for recipe in recipes}
    heads = {}
    for recipe, name in names.items():
        head = {
            "recipe": recipe,
            "command": f"python -m rollingq_core reproduce {recipe} --data {data_name} "
            f"--setting {setting_name} --seeds {len(seeds)}",
            "config": {"data": data_name, "setting": setting_name, "methods": list(methods)}
            | asdict(SETTINGS[setting_name]),
            "seeds": list(seeds),
            "levels": list(LEVELS),
        }
        heads[Path(out) / f"{name}.json"] = (head, partial(_of_recipe, recipe))
    groups = [seeds[start : start + SEEDS_A_BATCH] for start in range(0, len(seeds), SEEDS_A_BATCH)]
    chunks = {}
    for position, group in enumerate(groups):
        late = position * SEEDS_A_BATCH >= FEWER
        own = tuple(name for name in methods if not (late and name in RECIPES[recipes[0]].fewer))
        chunks["-".join(map(str, group))] = reports, own, data_name, setting_name, group
    folder = Path(out) / f"{'-'.join(names.values())}.parts"
    records = compute_records(heads, folder, run_seeds, chunks, jobs=jobs)
    return {recipe: records[Path(out) / f"{name}.json"] for recipe, name in names.items()}


def record_name(recipe: str, data_name: str, setting_name: str) -> str:
    """Return the name of a recipe's record, without ``.json``."""
    return f"{recipe}-{Path(data_name).stem}-{setting_name}"


def trainable(methods: tuple[str, ...], data_name: str, seed: int) -> tuple[str, ...]:
    """Return those of the methods that the data has all modalities for."""
    if all(METHODS[name].modalities is None for name in methods):
        return methods
    have = set(input_shapes(load_dataset(data_name, seed=seed)))
    return tuple(name for name in methods if set(METHODS[name].modalities or ()) <= have)


def _of_recipe(recipe: str, row: dict[str, Any]) -> dict[str, Any]:
    return (
        {name: row[name] for name in ("method", "seed")}
        | row[recipe]
        | {"data_hash": row["data_hash"]}
    )
