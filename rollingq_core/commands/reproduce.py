"""``reproduce``: compute a result record anew."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from rollingq_core.commands import describe_data
from rollingq_core.data.sources import SOURCES
from rollingq_core.reproduce import RECIPES, comparison
from rollingq_core.runs.description import PROFILES
from rollingq_core.settings import SETTINGS
from rollingq_core.training.machine import PRECISIONS


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "reproduce",
        help="compute a result record anew",
        description="Compute result records anew, and print the table that each ends with. "
        + "; ".join(f"{name}, {recipe.about}" for name, recipe in RECIPES.items()),
        epilog="example: python -m rollingq_core reproduce comparison --data digits --seeds 12",
    )
    parser.set_defaults(run=partial(run, parser), stopped="stopped; run it again to go on")
    shared = [name for name, recipe in RECIPES.items() if recipe.report]
    alone = [name for name in RECIPES if name not in shared]
    parser.add_argument(
        "recipes",
        nargs="+",
        choices=[*RECIPES],
        metavar="recipe",
        help=f"{', '.join(shared)} (several that train the same methods are computed from the same "
        f"models), or one of {', '.join(alone)}",
    )
    describe_data.add_option(parser, "digits by default, and avmnist_full for scale", default=None)
    parser.add_argument("--setting", choices=[*SETTINGS], help="P by default")
    parser.add_argument("--profile", choices=[*PROFILES], help="of scale only; gpu by default")
    parser.add_argument("--precision", help=f"of scale only: {', '.join(PRECISIONS)}")
    parser.add_argument("--seeds", type=int, help="how many; those of the book by default")
    parser.add_argument(
        "--jobs", type=int, help="processes to use; 2 by default, and 1 for scale (one GPU)"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder to write to")


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Compute the records, and print each one's table and where it lies."""
    recipes = tuple(dict.fromkeys(options.recipes))
    own = [name for name in recipes if RECIPES[name].compute]
    if own and len(recipes) > 1:
        parser.error(f"recipe: got {' '.join(recipes)}, expected {own[0]} alone")
    recipe = RECIPES[recipes[0]]
    for name in ("data", "setting", "profile", "precision"):
        if getattr(options, name) and name not in recipe.options:
            parser.error(f"--{name}: got one for {recipes[0]}, which has none")
    count = len(recipe.seeds) if options.seeds is None else options.seeds
    jobs = (1 if "profile" in recipe.options else 2) if options.jobs is None else options.jobs
    for name, value in (("seeds", count), ("jobs", jobs)):
        if value < 1:
            parser.error(f"--{name}: got {value}, expected at least 1")
    seeds = tuple(range(recipe.seeds[0], recipe.seeds[0] + count))
    if recipe.compute:
        records = _own_way(recipes[0], options, seeds, jobs)
    else:
        records = _from_runs(parser, recipes, options, seeds, jobs)
    for path, record in records.items():
        table = RECIPES[record["recipe"]].table
        if table is not None:
            shown = table(record)
            print(f"{shown}\n{shown.caption}")
        print(path)


def _own_way(
    name: str, options: argparse.Namespace, seeds: tuple[int, ...], jobs: int
) -> dict[Path, dict[str, Any]]:
    compute = RECIPES[name].compute
    assert compute is not None  # `run` has looked
    if not RECIPES[name].options:
        out = options.out / f"{name}-synthetic-T.json"
        return {out: compute(seeds, out=out, jobs=jobs)}
    if "profile" not in RECIPES[name].options:
        data = options.data or "digits"
        if "setting" in RECIPES[name].options:
            setting = options.setting or "P"
            out = options.out / f"{comparison.record_name(name, data, setting)}.json"
            return {out: compute(data, setting, seeds, out=out, jobs=jobs)}
        out = options.out / f"{name}-{Path(data).stem}.json"
        return {out: compute(name, data, seeds, out=out, jobs=jobs)}
    data, profile = options.data or "avmnist_full", options.profile or "gpu"
    out = options.out / f"{name}-{data}-{profile}.json"
    machine = {"precision": options.precision} if options.precision else {}
    return {out: compute(data, profile, seeds, out=out, jobs=jobs, **machine)}


def _from_runs(
    parser: argparse.ArgumentParser,
    recipes: tuple[str, ...],
    options: argparse.Namespace,
    seeds: tuple[int, ...],
    jobs: int,
) -> dict[Path, dict[str, Any]]:
    data, setting = options.data or "digits", options.setting or "P"
    if data in SOURCES and SOURCES[data].full_size:
        parser.error(f"--data: got {data!r} for {recipes[0]}, expected scale with it")
    records = comparison.reproduce(recipes, data, setting, seeds, out=options.out, jobs=jobs)
    return {
        options.out / f"{comparison.record_name(name, data, setting)}.json": record
        for name, record in records.items()
    }
