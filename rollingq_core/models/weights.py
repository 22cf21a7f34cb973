"""Weights of a backbone from a file of the reader's own; only data is read, no code is run."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rollingq_core._extras import needs

# Under which names training programs keep weights beside other things.
WRAPPED_IN = ("state_dict", "model")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the named tensors of a safetensors file, or of what ``torch.save`` wrote.

    Those of a model that was trained on several devices lose the ``module.`` before their names.

    Parameters
    ----------
    path
        The file; what ends in ``.safetensors`` is read as such.

    Raises
    ------
    OSError
        There is no such file, or it can't be read.
    ValueError
        It is damaged, holds more than data, or holds no named tensors.
    """
    path = Path(path)
    with path.open("rb"):  # so that a missing file says so itself
        pass
    with needs("train"):
        from safetensors.torch import load_file

    try:
        read = load_file if path.suffix == ".safetensors" else _load
        state: Any = read(path)
    except OSError:
        raise
    except Exception as error:  # a damaged file can make either reader raise nearly anything
        raise ValueError(
            f"weights: got {path}, which is damaged or holds more than data, expected weights"
        ) from error
    for name in WRAPPED_IN:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not _holds_tensors(state):
        raise ValueError(f"weights: got {path} without named tensors, expected weights")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _holds_tensors(state: Any) -> bool:
    return (
        isinstance(state, dict)
        and bool(state)
        and all(isinstance(name, str) for name in state)
        and all(isinstance(value, Tensor) for value in state.values())
    )
