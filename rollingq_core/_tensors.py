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
    samples = _as_tensor(f"inputs[{name!r}]", values, "numbers")
    if samples.is_complex():
        raise ValueError(f"inputs[{name!r}]: got dtype {samples.dtype}, expected real numbers")
    if samples.ndim < 2 or len(samples) != count:
        raise ValueError(
            f"inputs[{name!r}]: got shape {tuple(samples.shape)}, "
            f"expected [{count}, ...] to match labels"
        )
    return samples.to(torch.float32)


def as_labels(labels: Any) -> Tensor:
    """Return class indices as int64 ``[N]``.

    Raises
    ------
    ValueError
        Labels that are no integers (floats and booleans are none), not one-dimensional, or below 0.
    """
    indices = _as_tensor("labels", labels, "integers [N]")
    require_labels("labels", indices)
    return indices.to(torch.int64)


def require_labels(name: str, labels: Tensor, classes: int | None = None) -> None:
    """Raise ``ValueError`` when ``labels`` are not class indices ``[N]`` of so many classes."""
    dtype, shape = labels.dtype, list(labels.shape)
    if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
        raise ValueError(f"{name}: got dtype {dtype}, expected integers")
    if len(shape) != 1:
        raise ValueError(f"{name}: got shape {shape}, expected [N]")
    if not shape[0]:
        return
    # Of wide unsigned integers, torch finds no least.
    indices = labels.to(torch.int64)
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or (classes is not None and high >= classes):
        expected = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise ValueError(f"{name}: got classes {low} to {high}, expected {expected}")


def _as_tensor(name: str, values: Any, expected: str) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(values).__name__
        raise ValueError(f"{name}: got {kind}, expected {expected} ({error})") from error
