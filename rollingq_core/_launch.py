"""Start and end several processes that train one model, and notice when one is gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import distributed

from rollingq_core._ranks import gathered, rank, world_size

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
    accelerator, precision, devices, num_nodes
        As Fabric has them.
    timeout
        Seconds after which a process that waits for another gives up.
    unused_parameters
        Whether some parameters may take no part in a step.
    """
    strategy = "auto"
    if devices != 1 or num_nodes > 1:
        strategy = DDPStrategy(
            timeout=timedelta(seconds=timeout),
            broadcast_buffers=False,  # each process turns its query itself
            find_unused_parameters=unused_parameters,
        )
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        precision=precision,
        strategy=strategy,
    )
    if strategy != "auto":
        with lost_connections_named():
            fabric.launch()
    return fabric


@contextmanager
def lost_connections_named() -> Iterator[None]:
    """Raise a ``ConnectionError`` when another process has gone or does not answer in time."""
    try:
        yield
    except RuntimeError as error:
        several = distributed.is_available() and distributed.is_initialized()
        if not several or not any(word in str(error).lower() for word in LOST):
            raise
        first = (str(error).splitlines() or [""])[0]
        raise ConnectionError(
            f"process {rank()} of {world_size()}: another one has stopped or does not answer; "
            f"start the same command again to go on from the last checkpoint ({first})"
        ) from error


def seen_by_all(path: str | Path) -> bool:
    """Return whether all processes see a file; if only some do, raise a ``ValueError``."""
    with lost_connections_named():
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
