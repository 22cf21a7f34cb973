"""``train``: train one model, and go on where a run that was cut off has stopped."""

import argparse
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import FrameType
from typing import Any

from lightning_fabric.utilities.rank_zero import rank_zero_only
from tqdm.auto import tqdm

from rollingq_core.commands import describe_data
from rollingq_core.methods import METHODS
from rollingq_core.runs.description import PROFILES, VARIABLE, RunDescription
from rollingq_core.runs.folder import CHECKPOINT, HISTORY, MODEL, History, train_in
from rollingq_core.training.checkpoint import load_checkpoint
from rollingq_core.training.machine import PRECISIONS, Machine


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
    parser.set_defaults(run=run, stopped="stopped; run it again to go on")
    describe_data.add_option(parser, "what to train on", default="digits")
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
    machine.add_argument("--precision", choices=PRECISIONS, default="32-true")
    machine.add_argument("--compile", action="store_true", help="use torch.compile")
    machine.add_argument("--accumulate", type=int, default=1, help="pieces to cut a batch into")
    machine.add_argument("--clip", type=float, help="largest norm of the gradients")
    machine.add_argument("--workers", type=int, default=0, help="processes that read ahead")
    machine.add_argument(
        "--from-scratch", action="store_true", help="never start from ImageNet's weights"
    )


def run(options: argparse.Namespace) -> None:
    """Train and print a line for each epoch."""
    wanted = describe(options)
    training = wanted.setting.training
    total, calls = training.pretrain_epochs + training.epochs, count()

    def watch(history: History) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        if next(calls):  # the first shows what an earlier command has told
            tqdm.write(line(history[-1], total))

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
        with _remembered_ctrl_c() as pressed:
            finished = train_in(options.out, wanted, watch=watch, machine=machine, progress=True)
    except KeyboardInterrupt:
        if not _is_first():
            raise SystemExit(130) from None
        raise KeyboardInterrupt(_where_stopped(options.out / CHECKPOINT)) from None
    if _is_first():
        epoch = finished.result.selected_epoch + 1
        print(f"{options.out / CHECKPOINT}: weights of epoch {epoch}")


@contextmanager
def _remembered_ctrl_c() -> Iterator[Event]:
    """Yield an event that Ctrl-C sets.

    Python drops an interrupt that comes while an object is being deleted, as those that read ahead
    are after each epoch. So the end of an epoch asks again.
    """
    pressed = Event()

    def press(number: int, frame: FrameType | None) -> None:
        pressed.set()
        raise KeyboardInterrupt

    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield pressed
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _is_first() -> bool:
    """Return whether this is the one process that writes and tells, of those that train."""
    return not getattr(rank_zero_only, "rank", 0)


def _where_stopped(checkpoint: Path) -> str:
    # The file knows best: an epoch that was told of last may not be the last one saved.
    epochs = len(load_checkpoint(checkpoint)["history"]) if checkpoint.is_file() else 0
    where = f"after epoch {epochs}" if epochs else "before the end of the first epoch"
    return f"stopped {where}; run it again to go on"


def describe(options: argparse.Namespace) -> RunDescription:
    """Return the run that the options ask for."""
    run = RunDescription.of_profile(options.data, options.method, options.profile, options.seed)
    given = {key: getattr(options, key) for key in ("rho", "beta", "max_rotations")}
    setting = replace(run.setting, **{key: x for key, x in given.items() if x is not None})
    if options.epochs is not None:
        setting = replace(setting, training=replace(setting.training, epochs=options.epochs))
    return replace(run, setting=setting, pretrained=run.pretrained and not options.from_scratch)


def line(record: dict[str, Any], total: int) -> str:
    """Return an epoch in one line."""
    text = f"epoch {record['epoch'] + 1}/{total} {record['stage']}: loss {record['train_loss']:.4f}"
    if record["stage"] != "fusion":
        return text
    text += f", validation accuracy {record['validation_accuracy']:.4f}"
    if record.get("air") is not None:  # attention, and a sample with a token in every modality
        text += f", AIR {record['air']:+.4f}"
    if record.get("rotation"):
        text += f", query turned by {math.degrees(record['rotation']['angle']):.1f} degrees"
    return text


def _devices(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--devices: got {text!r}, expected a number of at least 1, or auto")
    return int(text)
