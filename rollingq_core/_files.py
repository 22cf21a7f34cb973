"""Files that are written whole or not at all, and by one process at a time."""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from filelock import FileLock


@contextmanager
def written_whole(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of ``path`` once the block has ended well.

    After a crash the old file or the new one is there, never a part of one.

    Parameters
    ----------
    path
        File to write; its folder is made.

    Raises
    ------
    OSError
        The disk is full or the folder can't be written; the old file, if any, is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since a file can't be moved in one step to another disk.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # a full disk does not say what it was to hold
        raise


def delete_unfinished(path: str | Path) -> None:
    """Delete what a process that was killed while it wrote ``path`` has left of it.

    Only the one process that writes ``path`` may call it.
    """
    path = Path(path)
    for temporary in path.parent.glob(f".{escape(path.name)}.*"):
        temporary.unlink()


@contextmanager
def one_process_at_a_time(path: str | Path) -> Iterator[None]:
    """Wait until no other process is in this block for the same ``path``.

    The system frees the lock of a process that is killed. Where no lock can be had, such as in a
    folder that can't be written, the block runs without one.
    """
    # Only data needs it, and the method needs torch alone.
    from filelock import FileLock

    path = Path(path)
    # Not a name that delete_unfinished would take for a part of the file.
    file = path.with_name(f".lock.{path.name}")
    lock = FileLock(file)
    try:
        _acquire(lock, path)
        yield
    finally:
        if lock.is_locked:
            # Before the release: those who wait for a deleted file start over with a new one.
            with suppress(OSError):
                file.unlink()
            lock.release()


def _acquire(lock: "FileLock", path: Path) -> None:
    from filelock import Timeout

    with suppress(OSError, NotImplementedError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logging.getLogger(__name__).warning("waiting for another process to make %s", path)
            lock.acquire()
