"""``reproduce``: compute a result record anew."""

import argparse
from functools import partial
from pathlib import Path

from rollingq_core.data import DATASETS
from rollingq_core.reproduce import comparison, grid, regimes
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
    parser.set_defaults(run=partial(run, parser))
    parser.add_argument(
        "recipes",
        nargs="+",
        choices=[*comparison.REPORTS, *MAPS],
        metavar="recipe",
        help=f"{', '.join(comparison.REPORTS)} (several are computed from the same models), "
        f"or one of {', '.join(MAPS)}",
    )
    parser.add_argument(
        "--data",
        choices=[*DATASETS, *comparison.VARIANTS],
        default="digits",
        help="not of the maps",
    )
    parser.add_argument("--setting", choices=[*SETTINGS], default="P", help="not of the maps")
    parser.add_argument("--seeds", type=int, help="how many; those of the book by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes to use")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder to write to")


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Compute the records and print where they lie."""
    recipes = tuple(dict.fromkeys(options.recipes))
    maps = [name for name in recipes if name in MAPS]
    if maps and len(recipes) > 1:
        parser.error(f"recipe: got {' '.join(recipes)}, expected {maps[0]} alone")
    recipe, seeds = MAPS[maps[0]] if maps else (comparison, comparison.REPORTING_SEEDS)
    count = len(seeds) if options.seeds is None else options.seeds
    for name, value in (("seeds", count), ("jobs", options.jobs)):
        if value < 1:
            parser.error(f"--{name}: got {value}, expected at least 1")
    chosen = tuple(range(seeds[0], seeds[0] + count))
    if maps:
        path = options.out / f"{maps[0]}-synthetic-T.json"
        recipe.reproduce(chosen, out=path, jobs=options.jobs)
        print(path)
        return
    data, setting = options.data, options.setting
    recipe.reproduce(recipes, data, setting, chosen, out=options.out, jobs=options.jobs)
    for name in recipes:
        print(options.out / f"{name}-{data}-{setting}.json")
