"""``evaluate``: put a trained model to a test."""

import argparse
from pathlib import Path
from typing import Any

import torch

from rollingq_core._checks import require_choice, require_integer
from rollingq_core.commands import describe_data
from rollingq_core.data.dataset import DataSplits
from rollingq_core.evaluation import EVALUATIONS, LEVELS
from rollingq_core.records import provenance, write_record
from rollingq_core.runs.description import RunDescription, measure
from rollingq_core.runs.folder import CHECKPOINT, load_trained, read_description
from rollingq_core.settings import LARGEST_SEED


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "evaluate",
        help="test a trained model",
        description="Test a trained model on its dataset's test split, print a table and write a "
        "record beside the checkpoint. Tests: "
        + "; ".join(f"{name}, {test.about}" for name, test in EVALUATIONS.items()),
        epilog="example: python -m rollingq_core evaluate runs/digits --test noise",
    )
    parser.set_defaults(run=run, stopped="stopped, and nothing was written; run it again")
    parser.add_argument("checkpoint", type=Path, help="what train wrote: the folder or the file")
    parser.add_argument("--test", choices=[*EVALUATIONS], required=True)
    describe_data.add_option(parser, "another dataset, or file, of the same shapes", default=None)
    parser.add_argument("--device", default="cpu", help="for example cuda")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")


def run(options: argparse.Namespace) -> None:
    """Print the table and where the record lies."""
    out, record = evaluate(
        options.checkpoint,
        options.test,
        data_name=options.data,
        device=options.device,
        seed=options.seed,
    )
    (row,) = record["runs"]
    print(f"{EVALUATIONS[options.test].about}; rates as fractions of 1")
    print(table(options.test, {name: row[name] for name in row if name not in ("method", "seed")}))
    print(out)


def evaluate(
    checkpoint: str | Path,
    test: str,
    *,
    data_name: str | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> tuple[Path, dict[str, Any]]:
    """Test a trained model, write the record beside its checkpoint, and return both.

    Parameters
    ----------
    checkpoint
        What ``train`` wrote: the folder or the file.
    test
        One of ``EVALUATIONS``.
    data_name
        Another dataset or file of the same shapes; by default the one of the training.
    device, seed
        Where to compute, and the seed of the noise.

    Raises
    ------
    OSError or ValueError
        The checkpoint is missing, damaged or of another run, the data does not fit it, or the test
        asks for attention or modalities that the model has not.
    """
    require_choice("test", test, tuple(EVALUATIONS))
    require_integer("seed", seed, at_least=0, at_most=LARGEST_SEED)
    place, path = _device(device), Path(checkpoint)
    path = path / CHECKPOINT if path.is_dir() else path
    description = read_description(path.parent)
    data = description.load_data(data_name)
    require_fit(description, data, another=data_name not in (None, description.data))
    trained = load_trained(path, description, data, place)
    report = EVALUATIONS[test](trained.model, data.test, trained.favoured, seed)
    other = "" if data_name in (None, description.data) else f"-{Path(data_name).stem}"
    out = path.parent / f"{test}{other}.json"
    record = {
        "recipe": test,
        "command": f"python -m rollingq_core evaluate {path.parent} --test {test}",
        "config": description.as_dict(),
        "epoch": trained.result.selected_epoch,
        "test_data": data.name,
        "data_hash": data.data_hash,
        "noise_seed": seed,
        "levels": list(LEVELS),
        **provenance(torch.cuda.get_device_name(place) if place.type == "cuda" else None),
        "runs": [{"method": description.method, "seed": description.seed, **report}],
    }
    write_record(out, record)
    return out, record


def require_fit(description: RunDescription, data: DataSplits, another: bool) -> None:
    """Raise a ``ValueError`` where the data is not what the model was trained for."""
    measured = measure(data)
    for name, value in measured.items():
        trained = description.measured[name]
        if trained != value and not (another and name == "data_hash"):
            raise ValueError(
                f"--data: got {data.name} with {name} {value!r}, but the model was trained "
                f"with {trained!r}"
            )


def table(test: str, report: dict[str, Any]) -> str:
    """Return a report as lines of aligned columns under a heading."""
    by_level = {
        name: value
        for name, value in report.items()
        if name.startswith(EVALUATIONS[test].by_level or ("\0",))
    }
    if by_level:
        rows: list[list[Any]] = [["noise level", *(f"{level:g}" for level in LEVELS)]]
        rows += [[name, *values] for name, values in by_level.items()]
    else:
        rows = [["", "value"], *([name, value] for name, value in _numbers(report))]
    cells = [[cell if isinstance(cell, str) else _number(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells
    ]
    return "\n".join(text.rstrip() for text in lines)


def _numbers(report: dict[str, Any]) -> list[tuple[str, float | None]]:
    numbers = []
    for name, value in report.items():
        if isinstance(value, dict):
            numbers += [(f"{name} {key}", number) for key, number in value.items()]
        elif isinstance(value, tuple | list):
            numbers += [(f"{name} {index}", number) for index, number in enumerate(value)]
        else:
            numbers.append((name, value))
    return numbers


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.ones(1, device=device).sum().item()  # some take a tensor, but compute nothing
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"--device: got {name!r}, which can't be used ({reason})") from error
    return device
