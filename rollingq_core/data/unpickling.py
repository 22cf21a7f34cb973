"""The one way to open a published pickle: arrays only, in a process of its own, into an ``.npz``.

A pickle is a program. Its operations are listed first, without running it: one that names
anything but what arrays are made of is refused. Then it is loaded by an unpickler that admits no
more, in a process that holds nothing else and ends with it.
"""

import argparse
import errno
import os
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rollingq_core.data import store

# What arrays of numbers and of text are made of, under the names of numpy 1 and 2.
ADMITTED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}
# Operations that fetch something from elsewhere.
FOREIGN = ("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4")
# The array that holds the pickle's SHA-256.
ORIGIN = "source_sha256"
# Exit codes of the process where the disk is full.
FULL = (errno.ENOSPC, errno.EDQUOT)
PASSED_ON = ("PATH", "SYSTEMROOT")
LARGEST = 16 << 30
SECONDS = 3600


def convert(source: Path, target: BinaryIO) -> None:
    """Write a pickle's arrays into an open file, as ``numpy.savez`` does.

    Dicts become names: ``{"train": {"audio": …}}`` is ``train/audio``. One array more,
    ``source_sha256``, tells which pickle it was.

    Parameters
    ----------
    source
        A pickle of dicts of arrays.
    target
        An empty file that another process can open by its name.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is too large, no whole pickle, or holds anything but dicts of arrays of numbers or text.
    OSError
        The disk is full.
    """
    if not source.is_file():
        raise FileNotFoundError(f"source: {source} is not a file, expected a pickle")
    if source.stat().st_size > LARGEST:
        raise ValueError(f"source: {source} is larger than {LARGEST >> 30} GiB")
    command = [sys.executable, "-m", __name__, str(source.absolute()), target.name]
    # Its environment holds nothing that a payload could be after.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, env=environment)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"source: {source} took over {SECONDS} s to read") from error
    if done.returncode in FULL:
        raise OSError(done.returncode, "the disk is full; make room, and run again", target.name)
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        reason = told[0] if told else f"its process ended with {done.returncode}"
        raise ValueError(f"source: {source} can't be taken for arrays: {reason}")


class ArraysOnly(pickle.Unpickler):
    """An unpickler that admits what arrays are made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what ``ADMITTED`` has; all else is a ``ValueError``."""
        if (module, name) not in ADMITTED:
            raise ValueError(f"it names {module}.{name}, expected arrays only")
        if module.startswith("numpy._core") and not hasattr(np, "_core"):
            module = module.replace("numpy._core", "numpy.core")
        return super().find_class(module, name)


def require_admitted(file: BinaryIO) -> None:
    """List a pickle's operations, and refuse what they name, without running any.

    Raises
    ------
    ValueError
        One names something that is not admitted, or the file is no whole pickle.
    """
    # What operations push and keep, as far as it is text; STACK_GLOBAL takes its two names there.
    pushed: list[str | None] = [None, None]
    kept: dict[int, str | None] = {}
    for operation, argument, _ in pickletools.genops(file):
        name = operation.name
        if name in FOREIGN:
            raise ValueError(f"it fetches an object from elsewhere ({name})")
        if name in ("GLOBAL", "INST"):
            _require(*str(argument).split(" ", 1))
        if name == "STACK_GLOBAL":
            _require(*pushed[-2:])
        if name == "MEMOIZE":
            kept[len(kept)] = pushed[-1]
        elif name.endswith("PUT"):
            kept[int(argument or 0)] = pushed[-1]
        elif name.endswith("GET"):
            pushed.append(kept.get(int(argument or 0)))
        else:
            pushed.append(argument if isinstance(argument, str) else None)


def _require(module: str | None, name: str | None = None) -> None:
    if (module, name) not in ADMITTED:
        raise ValueError(f"it names {module}.{name}, expected arrays only")


def flattened(content: Any, name: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of nested dicts, by their keys joined by ``/``; texts as unicode.

    Raises
    ------
    ValueError
        There is anything else.
    """
    if isinstance(content, dict):
        found: dict[str, np.ndarray] = {}
        for key, value in content.items():
            if not isinstance(key, str) or "/" in key or "." in key:
                raise ValueError(f"it has the key {key!r}, expected a name")
            found |= flattened(value, f"{name}/{key}" if name else key)
        return found
    array = np.asarray(content)
    if array.dtype.kind in "OSU":
        array = np.array([_text(one) for one in array.ravel()]).reshape(array.shape)
    if array.dtype.kind not in "biufU":
        raise ValueError(f"{name} is of type {array.dtype}, expected numbers or text")
    return {name: array}


def _text(one: Any) -> str:
    if isinstance(one, bytes):
        return one.decode("latin1")
    if isinstance(one, (str, int, float)):
        return str(one)
    raise ValueError(f"it holds a {type(one).__name__}, expected numbers or text")


def main() -> None:
    """Convert one file; what is wrong goes to standard error in a line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    try:
        with options.source.open("rb") as file:
            require_admitted(file)
            file.seek(0)
            content = ArraysOnly(file, encoding="latin1").load()
        arrays = flattened(content) | {ORIGIN: np.array(store.sha256_file(options.source))}
        with options.target.open("wb") as target:
            np.savez(target, **arrays)  # type: ignore[arg-type]
    except Exception as error:  # of a damaged pickle, nearly any
        if isinstance(error, OSError) and error.errno in FULL:
            sys.exit(error.errno)
        reason = (str(error).splitlines() or [""])[0]
        sys.exit(f"{type(error).__name__}: {reason}")


if __name__ == "__main__":
    main()
