"""``reproduce``: compute a result record anew."""

import argparse
from functools import partial
from pathlib import Path
from types import ModuleType

from rollingq_core._launch import PRECISIONS
from rollingq_core.data import DATASETS, LARGE_DATASETS
from rollingq_core.profiles import PROFILES
from rollingq_core.reproduce import comparison, grid, regimes, scale
from rollingq_core.settings import SETTINGS

# Recipes of setting T alone, with the seeds that the book's own records have.
MAPS = {"grid": (grid, grid.TUNING_SEEDS), "regimes": (regimes, comparison.REPORTING_SEEDS)}


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "reproduce",
        help="compute a result record anew",
        epilog="example: python -m rollingq_core reproduce comparison --data digits --seeds 12",
    )
    parser.set_defaults(run=partial(run, parser), stopped="stopped; run it again to go on")
    parser.add_argument(
        "recipes",
        nargs="+",
        choices=[*comparison.REPORTS, *MAPS, "scale"],
        metavar="recipe",
        help=f"{', '.join(comparison.REPORTS)} (several are computed from the same models), "
        f"or one of {', '.join(MAPS)}, scale",
    )
    parser.add_argument(
        "--data",
        choices=[*DATASETS, *comparison.VARIANTS, *LARGE_DATASETS],
        help="not of the maps; digits by default, and avmnist_full for scale",
    )
    parser.add_argument("--setting", choices=[*SETTINGS], help="not of maps and scale; P")
    parser.add_argument("--profile", choices=[*PROFILES], help="of scale only; gpu by default")
    parser.add_argument("--precision", help=f"of scale only: {', '.join(PRECISIONS)}")
    parser.add_argument("--seeds", type=int, help="how many; those of the book by default")
    parser.add_argument(
        "--jobs", type=int, help="processes to use; 2 by default, and 1 for scale (one GPU)"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder to write to")


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Compute the records and print where they lie."""
    recipes = tuple(dict.fromkeys(options.recipes))
    alone = [name for name in recipes if name in (*MAPS, "scale")]
    if alone and len(recipes) > 1:
        parser.error(f"recipe: got {' '.join(recipes)}, expected {alone[0]} alone")
    foreign = {
        "--data": options.data and recipes[0] in MAPS,
        "--setting": options.setting and alone,
        "--profile": options.profile and recipes != ("scale",),
        "--precision": options.precision and recipes != ("scale",),
    }
    for name, given in foreign.items():
        if given:
            parser.error(f"{name}: got one for {recipes[0]}, which has none")
    module, seeds = _book(recipes[0])
    count = len(seeds) if options.seeds is None else options.seeds
    jobs = (1 if recipes == ("scale",) else 2) if options.jobs is None else options.jobs
    for name, value in (("seeds", count), ("jobs", jobs)):
        if value < 1:
            parser.error(f"--{name}: got {value}, expected at least 1")
    chosen, out = tuple(range(seeds[0], seeds[0] + count)), options.out
    if recipes == ("scale",):
        data, profile = options.data or "avmnist_full", options.profile or "gpu"
        machine = {"precision": options.precision} if options.precision else {}
        paths = [out / f"scale-{data}-{profile}.json"]
        module.reproduce(data, profile, chosen, out=paths[0], jobs=jobs, **machine)
    elif alone:
        paths = [out / f"{recipes[0]}-synthetic-T.json"]
        module.reproduce(chosen, out=paths[0], jobs=jobs)
    else:
        data, setting = options.data or "digits", options.setting or "P"
        if data in LARGE_DATASETS:
            parser.error(f"--data: got {data!r} for {recipes[0]}, expected scale with it")
        paths = [out / f"{name}-{data}-{setting}.json" for name in recipes]
        module.reproduce(recipes, data, setting, chosen, out=out, jobs=jobs)
    for path in paths:
        print(path)


def _book(recipe: str) -> tuple[ModuleType, tuple[int, ...]]:
    """Return the module of a recipe, and the seeds of the book's own record."""
    if recipe == "scale":
        return scale, scale.SEEDS
    return MAPS.get(recipe, (comparison, comparison.REPORTING_SEEDS))
