"""``train``: train a model or several, and go on where a run that was cut off has stopped."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from rollingq_core.commands import describe_data
from rollingq_core.commands.interrupt import remembered_ctrl_c
from rollingq_core.methods import METHODS, Schedule
from rollingq_core.models.predictions import predict
from rollingq_core.reproduce.closing import over_seeds
from rollingq_core.runs.description import PROFILES, VARIABLE, RunDescription
from rollingq_core.runs.folder import CHECKPOINT, HISTORY, MODEL, History, train_in
from rollingq_core.runs.log import LOGS, Log
from rollingq_core.runs.run import Run
from rollingq_core.tables import Table
from rollingq_core.training.checkpoint import load_checkpoint
from rollingq_core.training.machine import PRECISIONS, Machine

# Of the table that grows by a row an epoch; the first two leave room for what stands below.
TITLES = ("    epoch", "      stage", "loss, nats", "validation, %", "    AIR", "turn, degrees")
HEADING = "  ".join(TITLES)


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "train",
        help="train a model, or several",
        description="Train a model. A run that was cut off goes on, bit for bit, when the same "
        f"command is started again. The folder gets {CHECKPOINT}, {HISTORY} and {MODEL}. With "
        "several methods or seeds each run has a folder of its own in it, and in the end the "
        "methods are compared; see `methods` for their names.",
        epilog="example: python -m rollingq_core train --data digits --method mt mt+rollingq "
        "--seeds 5 --profile cpu --out runs/digits",
    )
    parser.set_defaults(run=run, stopped="stopped; run it again to go on")
    describe_data.add_option(parser, "what to train on", default="digits")
    parser.add_argument(
        "--method",
        nargs="+",
        choices=[*METHODS],
        default=["mt+rollingq"],
        metavar="METHOD",
        help=f"one or more of {', '.join(METHODS)}",
    )
    parser.add_argument(
        "--profile", choices=[*PROFILES], help=f"by default what {VARIABLE} says, or else cpu"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="the first, where there are several")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    parser.add_argument("--log", choices=LOGS, help="write the history as a table or events, too")
    numbers = parser.add_argument_group("numbers, by default those of the profile")
    numbers.add_argument("--rho", type=float, help="strength of the rebalancing")
    numbers.add_argument("--beta", type=float, help="imbalance that calls for a rotation")
    numbers.add_argument("--max-rotations", type=int)
    numbers.add_argument("--epochs", type=int)
    machine = parser.add_argument_group("machine")
    machine.add_argument("--accelerator", choices=("auto", "cpu", "cuda", "mps"))
    machine.add_argument("--devices", default="1", help="number of devices a node, or auto")
    machine.add_argument("--nodes", type=int, default=1)
    machine.add_argument("--precision", choices=PRECISIONS, default="32-true")
    machine.add_argument("--compile", action="store_true", help="use torch.compile")
    machine.add_argument("--accumulate", type=int, default=1, help="pieces to cut a batch into")
    machine.add_argument("--clip", type=float, help="largest norm of the gradients")
    machine.add_argument("--workers", type=int, default=0, help="processes that read ahead")
    start = parser.add_argument_group(
        "what the paper's encoders start from"
    ).add_mutually_exclusive_group()
    start.add_argument(
        "--from-scratch", action="store_true", help="never start from ImageNet's weights"
    )
    start.add_argument(
        "--weights",
        metavar="FILE",
        help="start from a file of ViT-B/16's weights (safetensors, or what torch.save wrote)",
    )


def run(options: argparse.Namespace) -> None:
    """Train, print a line for each epoch, and the table of what came out."""
    methods = tuple(dict.fromkeys(options.method))
    if options.seeds < 1:
        raise ValueError(f"--seeds: got {options.seeds}, expected at least 1")
    seeds = range(options.seed, options.seed + options.seeds)
    alone = len(methods) == len(seeds) == 1
    if not alone and (_devices(options.devices) != 1 or options.nodes > 1):
        raise ValueError("--devices: got several for several runs, expected one, or one run")
    finished: dict[tuple[str, int], Run] = {}
    for seed in seeds:
        for method in sorted(methods, key=lambda name: METHODS[name].follows is not None):
            folder = options.out if alone else options.out / f"{method}-{seed}"
            follows = METHODS[method].follows
            leader = finished.get((follows, seed)) if follows else None
            if not alone:
                tqdm.write(f"{method}, seed {seed}")
            wanted = describe(options, method, seed)
            schedule = leader.schedule_for(method) if leader else None
            finished[method, seed] = train_one(options, wanted, folder, schedule)
    if _is_first():
        ordered = {(m, s): finished[m, s] for m in methods for s in seeds}
        table = closing_table(ordered)
        print(f"{table}\n{table.caption}")
        if alone:
            (only,) = finished.values()
            epoch = only.result.selected_epoch + 1
            print(f"{options.out / CHECKPOINT}: weights of epoch {epoch}")
        else:
            print(options.out)


def train_one(
    options: argparse.Namespace,
    wanted: RunDescription,
    folder: Path,
    schedule: Schedule,
) -> Run:
    """Train one model in its folder."""
    training = wanted.setting.training
    total, calls = training.pretrain_epochs + training.epochs, count()
    # Of several processes only one tells, also before training has them meet.
    first = _is_first()
    log = Log(folder, options.log) if options.log and first else None

    def watch(history: History) -> None:
        if log is not None and history:
            log.tell(history)
        if pressed.is_set():
            raise KeyboardInterrupt
        if next(calls):  # the first shows what an earlier command has told
            tqdm.write(line(history[-1], total))
        elif first and len(history) < total:
            tqdm.write(HEADING)

    machine = Machine(
        accelerator=options.accelerator or PROFILES[wanted.profile].accelerator,
        precision=options.precision,
        devices=_devices(options.devices),
        nodes=options.nodes,
        compile=options.compile,
        accumulate=options.accumulate,
        clip=options.clip,
        workers=options.workers,
    )
    try:
        with remembered_ctrl_c() as pressed:
            return train_in(
                folder, wanted, schedule=schedule, watch=watch, machine=machine, progress=True
            )
    except KeyboardInterrupt:
        if not _is_first():
            raise SystemExit(130) from None
        raise KeyboardInterrupt(_where_stopped(folder / CHECKPOINT)) from None
    finally:
        if log is not None:
            log.close()


def closing_table(runs: dict[tuple[str, int], Run]) -> Table:
    """Return accuracies in percent and the last epoch's lean, a row a method."""
    rows = []
    for (method, seed), finished in runs.items():
        history, selected = finished.result.history, finished.result.selected_epoch
        test = predict(finished.model, finished.data.test)
        rows.append(
            {
                "method": method,
                "seed": seed,
                "validation": 100 * history[selected]["validation_accuracy"],
                "test": 100 * test.accuracy,
                "air": history[-1].get("air"),
                "rotations": None if test.share is None else len(finished.events),
            }
        )
    columns = {
        "validation accuracy, %": lambda row: row["validation"],
        "test accuracy, %": lambda row: row["test"],
        "last AIR": lambda row: row["air"],
        "rotations": lambda row: row["rotations"],
    }
    baseline = next(iter(runs))[0]
    return over_seeds(rows, columns, "Each run's selected epoch", baseline=baseline, digits=2)


def _is_first() -> bool:
    """Return whether this is the one process that writes and tells, of those that train."""
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    return not getattr(rank_zero_only, "rank", 0)


def _where_stopped(checkpoint: Path) -> str:
    # The file knows best: an epoch that was told of last may not be the last one saved.
    epochs = len(load_checkpoint(checkpoint)["history"]) if checkpoint.is_file() else 0
    where = f"after epoch {epochs}" if epochs else "before the end of the first epoch"
    return f"stopped {where}; run it again to go on"


def describe(options: argparse.Namespace, method: str, seed: int) -> RunDescription:
    """Return the run that the options ask for."""
    run = RunDescription.of_profile(options.data, method, options.profile, seed)
    given = {key: getattr(options, key) for key in ("rho", "beta", "max_rotations")}
    setting = replace(
        run.setting, **{key: value for key, value in given.items() if value is not None}
    )
    if options.epochs is not None:
        setting = replace(setting, training=replace(setting.training, epochs=options.epochs))
    pretrained = run.pretrained and not (options.from_scratch or options.weights)
    return replace(run, setting=setting, pretrained=pretrained, weights=options.weights)


def line(record: dict[str, Any], total: int) -> str:
    """Return an epoch's row under ``HEADING``; "-" where there is no such number."""
    accuracy, air = record.get("validation_accuracy"), record.get("air")
    rotation = record.get("rotation")
    cells = (
        f"{record['epoch'] + 1}/{total}",
        record["stage"],
        f"{record['train_loss']:.4f}",
        "-" if accuracy is None else f"{100 * accuracy:.2f}",
        "-" if air is None else f"{air:+.4f}",
        f"{math.degrees(rotation['angle']):.1f}" if rotation else "-",
    )
    return _row(cells)


def _row(cells: Sequence[str]) -> str:
    return "  ".join(cell.rjust(len(title)) for cell, title in zip(cells, TITLES, strict=True))


def _devices(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--devices: got {text!r}, expected a number of at least 1, or auto")
    return int(text)
