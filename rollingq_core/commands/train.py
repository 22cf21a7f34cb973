"""``train``: train one model, and go on where a run that was cut off has stopped."""

import argparse
import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_fabric.utilities.rank_zero import rank_zero_only
from tqdm.auto import tqdm

from rollingq_core._files import written_whole
from rollingq_core._ranks import rank
from rollingq_core.checkpoint import load_checkpoint_of
from rollingq_core.data import DATASETS, LARGE_DATASETS
from rollingq_core.profiles import (
    METHODS,
    PROFILES,
    VARIABLE,
    RunDescription,
    current_profile,
    measure,
)
from rollingq_core.settings import one_thread
from rollingq_core.training import fit, run_identity

CHECKPOINT, HISTORY, MODEL = "checkpoint.pt", "history.json", "model.json"


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "train",
        help="train one model",
        description="Train one model. A run that was cut off goes on, bit for bit, when the same "
        f"command is started again. The folder gets {CHECKPOINT}, {HISTORY} and {MODEL}.",
        epilog="example: python -m rollingq_core train --data digits --method mt+rollingq "
        "--profile cpu --out runs/digits",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--data", choices=[*DATASETS, *LARGE_DATASETS], default="digits")
    parser.add_argument("--method", choices=[*METHODS], default="mt+rollingq")
    parser.add_argument(
        "--profile", choices=[*PROFILES], help=f"by default what {VARIABLE} says, or else cpu"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    numbers = parser.add_argument_group("numbers, by default those of the profile")
    numbers.add_argument("--rho", type=float, help="strength of the rebalancing")
    numbers.add_argument("--beta", type=float, help="imbalance that calls for a rotation")
    numbers.add_argument("--max-rotations", type=int)
    numbers.add_argument("--epochs", type=int)
    machine = parser.add_argument_group("machine")
    machine.add_argument("--accelerator", choices=("auto", "cpu", "cuda", "mps"))
    machine.add_argument("--devices", default="1", help="number of devices a node, or auto")
    machine.add_argument("--nodes", type=int, default=1)
    machine.add_argument("--precision", default="32-true", help="for example bf16-mixed")
    machine.add_argument("--compile", action="store_true", help="use torch.compile")
    machine.add_argument("--accumulate", type=int, default=1, help="pieces to cut a batch into")
    machine.add_argument("--clip", type=float, help="largest norm of the gradients")
    machine.add_argument("--workers", type=int, default=0, help="processes that read ahead")
    machine.add_argument(
        "--from-scratch", action="store_true", help="never start from ImageNet's weights"
    )


def run(options: argparse.Namespace) -> None:
    """Train and print a line for each epoch."""
    folder, wanted = options.out, describe(options)
    checkpoint = folder / CHECKPOINT
    if (folder / MODEL).exists():
        require_same(folder, read_description(folder), wanted)
    data = wanted.load_data()
    wanted = replace(wanted, measured=measure(data))
    # A run that goes on has its weights in the checkpoint.
    fresh = not checkpoint.exists()
    model, config, rolling = wanted.plan(data, pretrained=wanted.pretrained and fresh)
    history = []
    if not fresh:
        history = load_checkpoint_of(checkpoint, run_identity(model, data, config, rolling))[
            "history"
        ]
    write_json(folder / MODEL, wanted.as_dict())
    if history:  # the last line may be missing there
        write_json(folder / HISTORY, history)

    def tell(record: dict[str, Any]) -> None:
        history.append(record)
        if rank() == 0:
            write_json(folder / HISTORY, history)
            tqdm.write(line(record, config.pretrain_epochs + config.epochs))

    profile = PROFILES[wanted.profile]
    # On a CPU, the result is not to depend on the number of cores.
    with one_thread() if profile.accelerator == "cpu" else nullcontext():
        result = fit(
            model,
            data,
            config,
            rolling,
            checkpoint=checkpoint,
            progress=True,
            on_epoch=tell,
            accelerator=options.accelerator or profile.accelerator,
            devices=_devices(options.devices),
            num_nodes=options.nodes,
            precision=options.precision,
            compile=options.compile,
            accumulate=options.accumulate,
            clip=options.clip,
            num_workers=options.workers,
        )
    if not getattr(rank_zero_only, "rank", 0):
        print(f"{checkpoint}: weights of epoch {result.selected_epoch + 1}")


def describe(options: argparse.Namespace) -> RunDescription:
    """Return the run that the options ask for."""
    name = options.profile or current_profile()
    setting = PROFILES[name].setting
    given = {key: getattr(options, key) for key in ("rho", "beta", "max_rotations")}
    setting = replace(setting, **{key: x for key, x in given.items() if x is not None})
    if options.epochs is not None:
        setting = replace(setting, training=replace(setting.training, epochs=options.epochs))
    pretrained = PROFILES[name].pretrained and not options.from_scratch
    return RunDescription(options.data, options.method, name, options.seed, setting, pretrained)


def line(record: dict[str, Any], total: int) -> str:
    """Return an epoch in one line."""
    text = f"epoch {record['epoch'] + 1}/{total} {record['stage']}: loss {record['train_loss']:.4f}"
    if record["stage"] != "fusion":
        return text
    text += f", validation accuracy {record['validation_accuracy']:.4f}, AIR {record['air']:+.4f}"
    if record["rotation"]:
        text += f", query turned by {math.degrees(record['rotation']['angle']):.1f} degrees"
    return text


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` in one step, its numbers with all their digits."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    with written_whole(path) as file:
        file.write(text.encode())


def read_description(folder: Path) -> RunDescription:
    """Read a run's description.

    Raises
    ------
    OSError
        There is none.
    ValueError
        It is damaged.
    """
    path = folder / MODEL
    try:
        return RunDescription.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def require_same(folder: Path, found: RunDescription, wanted: RunDescription) -> None:
    """Raise a ``ValueError`` that names the differences where a folder holds another run."""
    one, two = (flat(replace(x, measured={}).as_dict()) for x in (found, wanted))
    names = [name for name in one if one[name] != two[name]]
    if names:
        of, instead = (", ".join(f"{n} {x[n]!r}" for n in names) for x in (one, two))
        raise ValueError(f"--out: {folder} holds a run of {of}; expected {instead}, or no run")


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one, with dots in its names."""
    found = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _devices(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--devices: got {text!r}, expected a number of at least 1, or auto")
    return int(text)
