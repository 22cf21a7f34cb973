"""Checkpoints that are never half written, and that can't run code when read."""

import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch

FORMAT = "rollingq-checkpoint-1"


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path`` in one step: after a crash the old file or the new one is there.

    Parameters
    ----------
    path
        File to write; its folder is made.
    state
        Tensors, numbers, strings, and dicts, lists and tuples of these.

    Raises
    ------
    OSError
        The disk is full or the folder can't be written; the old file, if any, is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote; only data is read, no code is run.

    Parameters
    ----------
    path
        The file.
    device
        Where its tensors go.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is damaged, holds more than data, or is no checkpoint of this package.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"path: can't read {path} as a checkpoint: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"path: got {path}, expected a checkpoint of format {FORMAT!r}")
    return state
