"""Several processes that train one model: to notice when one is gone, and to end them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch import distributed

from rollingq_core._ranks import gathered, world_size

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOST = ("connection", "timed out", "timeout", "gloo", "nccl", "socket")


@contextmanager
def lost_processes_named(fabric: "Fabric") -> Iterator[None]:
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


def _end_started(fabric: "Fabric") -> None:
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
