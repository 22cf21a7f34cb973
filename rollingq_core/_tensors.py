"""Inputs are real numbers and labels class indices from 0: anything else is named, not used."""

from typing import Any

import torch
from torch import Tensor


def as_input(name: str, values: Any, count: int) -> Tensor:
    """Return one modality's samples as float32 ``[N, ...]``, where N is ``count``.

    Raises
    ------
    ValueError
        Values that are no real numbers, or of another shape.
    """
    try:
        found = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"inputs[{name!r}]: got {type(values).__name__}, expected numbers ({error})"
        ) from error
    if found.is_complex():
        raise ValueError(f"inputs[{name!r}]: got dtype {found.dtype}, expected real numbers")
    if found.ndim < 2 or len(found) != count:
        raise ValueError(
            f"inputs[{name!r}]: got shape {tuple(found.shape)}, "
            f"expected [{count}, ...] to match labels"
        )
    return found.to(torch.float32)


def as_labels(labels: Any) -> Tensor:
    """Return class indices as int64 ``[N]``.

    Raises
    ------
    ValueError
        Labels that are no integers (floats and booleans are none), not one-dimensional, or below 0.
    """
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"labels: got {type(labels).__name__}, expected integers [N] ({error})"
        ) from error
    require_labels("labels", found)
    return found.to(torch.int64)


def require_labels(name: str, labels: Tensor, classes: int | None = None) -> None:
    """Raise ``ValueError`` when ``labels`` are not class indices ``[N]`` of so many classes."""
    dtype, shape = labels.dtype, list(labels.shape)
    if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
        raise ValueError(f"{name}: got dtype {dtype}, expected integers")
    if len(shape) != 1:
        raise ValueError(f"{name}: got shape {shape}, expected [N]")
    if not shape[0]:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes is not None and high >= classes):
        expected = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise ValueError(f"{name}: got classes {low} to {high}, expected {expected}")
