"""Start and end several processes that train one model, and notice when one is gone."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from rollingq_core._checks import require_choice, require_integer, require_number
from rollingq_core._extras import needs
from rollingq_core._ranks import gathered, world_size

with needs("train"):
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy
    from lightning_fabric.utilities.exceptions import MisconfigurationException

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
LOST = ("connection", "timed out", "timeout", "gloo", "nccl", "socket")


def start(
    accelerator: str,
    precision: str,
    devices: int | str = 1,
    num_nodes: int = 1,
    *,
    timeout: float = 1800.0,
    unused_parameters: bool = False,
) -> Fabric:
    """Return Lightning Fabric, with a process for each device where there are several.

    Parameters
    ----------
    accelerator, devices, num_nodes
        As Fabric has them; on a CPU, at most two processes a core.
    precision
        One of :data:`PRECISIONS`.
    timeout
        Seconds after which a process that waits for another gives up.
    unused_parameters
        Whether some parameters may take no part in a step.

    Raises
    ------
    ValueError
        An option out of range, a device that this machine hasn't, or one device for several
        processes that torchrun has started.
    ConnectionError
        Another process has stopped.
    """
    _require_machine(accelerator, precision, devices, num_nodes)
    require_number("timeout", timeout, above=0)
    strategy = "auto"
    if devices != 1 or num_nodes > 1:
        strategy = DDPStrategy(
            timeout=timedelta(seconds=timeout),
            find_unused_parameters=unused_parameters,
        )
    elif TorchElasticEnvironment.detect() and (count := TorchElasticEnvironment().world_size()) > 1:
        # Each would train for itself, and write over the others.
        raise ValueError(
            f"devices: got 1, but torchrun has started {count} processes, expected as many devices"
        )
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,
            strategy=strategy,
        )
    except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"accelerator: got {accelerator!r} with devices {devices!r} and precision "
            f"{precision!r}, expected what this machine has ({reason})"
        ) from error
    if strategy != "auto":
        with lost_processes_named(fabric):
            fabric.launch()
    return fabric


def _require_machine(accelerator: str, precision: str, devices: int | str, num_nodes: int) -> None:
    require_choice("precision", precision, PRECISIONS)
    require_integer("num_nodes", num_nodes, at_least=1)
    if devices != "auto":
        # Of an accelerator, Fabric knows how many there are.
        none = accelerator == "auto" and not torch.accelerator.is_available()
        most = 2 * (os.cpu_count() or 1) if none or accelerator == "cpu" else math.inf
        require_integer("devices", devices, at_least=1, at_most=most)


@contextmanager
def lost_processes_named(fabric: Fabric) -> Iterator[None]:
    """Raise a ``ConnectionError`` when another process has gone or does not answer in time.

    Those that this process has started are ended then, as one that hangs would stay for ever; so
    are they where the user has stopped this one.
    """
    try:
        yield
    except KeyboardInterrupt:
        _end_started(fabric)
        raise
    except RuntimeError as error:
        several = fabric.world_size
        if several == 1 or not any(word in str(error).lower() for word in LOST):
            raise
        _end_started(fabric)
        reason = (str(error).splitlines() or [""])[0]
        raise ConnectionError(
            f"process {fabric.global_rank} of {several}: another one has stopped or does not "
            "answer; start the same command again to go on from the last checkpoint "
            f"({reason})"
        ) from error


def _end_started(fabric: Fabric) -> None:
    for process in getattr(fabric.strategy.launcher, "procs", ()):
        process.kill()


def seen_by_all(path: str | Path) -> bool:
    """Return whether all processes see a file; if only some do, raise a ``ValueError``."""
    seen = gathered(Path(path).exists())
    if any(seen) and not all(seen):
        raise ValueError(
            f"checkpoint: process {seen.index(False)} does not see {path}, "
            "expected a folder that all share"
        )
    return all(seen)


def finish() -> None:
    """End the work of several processes, so that each goes on alone."""
    if world_size() > 1:
        distributed.destroy_process_group()
