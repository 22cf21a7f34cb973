"""``evaluate``: put a trained model to one of the noise tests."""

import argparse
from pathlib import Path
from typing import Any

import torch

from rollingq_core._checks import require_choice, require_integer
from rollingq_core.data import DATASETS, LARGE_DATASETS
from rollingq_core.data.dataset import DataSplits
from rollingq_core.evaluation import LEVELS
from rollingq_core.profiles import RunDescription, measure
from rollingq_core.recipe import LARGEST_SEED
from rollingq_core.records import provenance, write_record
from rollingq_core.reproduce.comparison import REPORTS
from rollingq_core.run_folder import CHECKPOINT, load_trained, read_description

# By name: the report, and what it tells.
TESTS = {
    "noise": ("table3", "accuracy as one modality or both become noise"),
    "conflict": ("conflict", "whom the model follows where the modalities disagree"),
    "calibration": ("calibration", "confidence as audio becomes noise"),
    "table2": ("table2", "whether attention notices that audio is noise"),
}


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "evaluate",
        help="test a trained model",
        description="Test a trained model on its dataset's test split, print a table and write a "
        "record beside the checkpoint. Tests: "
        + "; ".join(f"{name}, {what}" for name, (_, what) in TESTS.items()),
        epilog="example: python -m rollingq_core evaluate runs/digits --test noise",
    )
    parser.set_defaults(run=run, stopped="stopped, and nothing was written; run it again")
    parser.add_argument("checkpoint", type=Path, help="what train wrote: the folder or the file")
    parser.add_argument("--test", choices=[*TESTS], required=True)
    parser.add_argument(
        "--data", choices=[*DATASETS, *LARGE_DATASETS], help="another dataset of the same shapes"
    )
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
        One of ``TESTS``.
    data_name
        Another dataset of the same shapes; by default the one of the training.
    device, seed
        Where to compute, and the seed of the noise.

    Raises
    ------
    OSError or ValueError
        The checkpoint is missing, damaged or of another run, or the data does not fit it.
    """
    require_choice("test", test, tuple(TESTS))
    require_integer("seed", seed, at_least=0, at_most=LARGEST_SEED)
    place, path = _device(device), Path(checkpoint)
    path = path / CHECKPOINT if path.is_dir() else path
    description = read_description(path.parent)
    data = description.load_data(data_name)
    require_fit(description, data, another=data_name not in (None, description.data))
    trained = load_trained(path, description, data, place)
    report = REPORTS[TESTS[test][0]](description.method, seed, trained)
    other = "" if data.name == description.data else f"-{data.name}"
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
    found = measure(data)
    for name, value in description.measured.items():
        if found[name] != value and not (another and name == "data_hash"):
            raise ValueError(
                f"--data: got {data.name} with {name} {found[name]!r}, but the model was trained "
                f"with {value!r}"
            )


def table(test: str, report: dict[str, Any]) -> str:
    """Return a report as lines of aligned columns."""
    rows = [["", *(f"{level:g}" for level in LEVELS)]]
    if test == "noise":
        rows += [[name, *values] for name, values in report.items()]
    elif test == "calibration":
        rows += [[name, *report[name]] for name in ("accuracy", "ece")]
    else:
        rows = [[name, value] for name, value in _numbers(report)]
    cells = [[x if isinstance(x, str) else _number(x) for x in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells
    ]
    return "\n".join(text.rstrip() for text in lines)


def _numbers(report: dict[str, Any]) -> list[tuple[str, float | None]]:
    found = []
    for name, value in report.items():
        if isinstance(value, dict):
            found += [(f"{name} {key}", one) for key, one in value.items()]
        elif isinstance(value, tuple | list):
            found += [(f"{name} {index}", one) for index, one in enumerate(value)]
        else:
            found.append((name, value))
    return found


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
