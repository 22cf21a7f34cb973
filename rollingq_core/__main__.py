"""The command line: ``python -m rollingq_core``, also installed as ``rollingq``."""

import argparse
from pathlib import Path

from rollingq_core.data import DATASETS, cremad, cremad_files
from rollingq_core.reproduce import comparison, grid, regimes
from rollingq_core.settings import SETTINGS

# Recipes of setting T alone, with the seeds that the book's own records have.
MAPS = {"grid": (grid, grid.TUNING_SEEDS), "regimes": (regimes, comparison.REPORTING_SEEDS)}


def add_data_command(commands: argparse._SubParsersAction) -> None:
    """Add ``data``, which brings a large dataset into the form that training reads."""
    needed = " ".join(cremad_files.__doc__.replace("``", "").split())
    data = commands.add_parser(
        "data",
        help="prepare a large dataset, or verify its files",
        description=f"Prepare CREMA-D, or verify its files. {needed}",
        epilog="example: python -m rollingq_core data prepare cremad --root CREMA-D --jobs 4",
    )
    data.add_argument("action", choices=("prepare", "verify"))
    data.add_argument("dataset", choices=("cremad",))
    data.add_argument("--root", type=Path, help="its folder; CREMA-D in the data root by default")
    data.add_argument("--jobs", type=int, default=1, help="processes to use")
    data.add_argument(
        "--audio", choices=[*cremad.CREMAD_SETTINGS], default="code", help="spectrograms to prepare"
    )


def run_data_command(options: argparse.Namespace) -> None:
    """Prepare a dataset and print where it lies, or print what :func:`cremad.verify` finds."""
    if options.action == "prepare":
        print(cremad.prepare(options.root, options.audio, options.jobs, progress=True))
        return
    report = cremad.verify(options.root, options.jobs, progress=True)
    print(report)
    if not report.ok:
        raise SystemExit(1)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ``arguments`` are those of the process by default."""
    parser = argparse.ArgumentParser(prog="rollingq", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add_data_command(commands)
    reproduce = commands.add_parser(
        "reproduce",
        help="compute a result record anew",
        epilog="example: python -m rollingq_core reproduce comparison --data digits --seeds 12",
    )
    reproduce.add_argument(
        "recipes",
        nargs="+",
        choices=[*comparison.REPORTS, *MAPS],
        metavar="recipe",
        help=f"{', '.join(comparison.REPORTS)} (several are computed from the same models), "
        f"or one of {', '.join(MAPS)}",
    )
    reproduce.add_argument(
        "--data",
        choices=[*DATASETS, *comparison.VARIANTS],
        default="digits",
        help="not of the maps",
    )
    reproduce.add_argument("--setting", choices=[*SETTINGS], default="P", help="not of the maps")
    reproduce.add_argument("--seeds", type=int, help="how many; those of the book by default")
    reproduce.add_argument("--jobs", type=int, default=2, help="processes to use")
    reproduce.add_argument("--out", type=Path, default=Path("results"), help="folder to write to")
    options = parser.parse_args(arguments)
    if options.command == "data":
        try:
            run_data_command(options)
        except (OSError, ValueError) as error:
            parser.exit(1, f"rollingq: {' '.join(str(error).split())}\n")
        return
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


if __name__ == "__main__":
    main()
