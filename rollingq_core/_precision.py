"""Arithmetic that does not depend on the precision in which a model is trained."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def without_autocast(tensor: Tensor) -> AbstractContextManager:
    """Return a context in which operations on this tensor's device keep their dtype."""
    kind = tensor.device.type
    # Older compilers of torch can't look through the question; what they compile for, has autocast.
    if torch.compiler.is_compiling() or (
        torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    ):
        return torch.autocast(kind, enabled=False)
    return nullcontext()  # each step asks, and this takes less than half of the time


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums of such numbers neither overflow nor lose terms."""
    return torch.promote_types(dtype, torch.float32)


def rounding(dtype: torch.dtype) -> float:
    """Size, beside 1, below which a vector that training left in ``dtype`` is only rounding.

    A key that should be zero is not quite: the gradient of a key's bias is zero (softmax does not
    see it) up to the dtype's relative precision eps, and what is left adds up over the steps. Half
    of the digits, ``sqrt(eps)``, leave room for that; where so few digits are left that this would
    discard real keys (above 1e-3), it is a thousandth, or the last digit itself.

    Examples
    --------
    >>> [f"{rounding(dtype):.0e}" for dtype in (torch.float64, torch.float32, torch.bfloat16)]
    ['1e-08', '3e-04', '8e-03']
    """
    eps = torch.finfo(dtype).eps
    return max(eps, min(math.sqrt(eps), 1e-3))


def negligible(mean_keys: Tensor) -> Tensor:
    """Tell which mean keys ``[..., M, d]`` have no direction, ``[..., M]``.

    They are zero, or :func:`rounding` beside the largest of the M.

    Examples
    --------
    >>> negligible(torch.tensor([[[3.0, 4.0], [1e-9, 0.0], [0.0, 0.01]]]))
    tensor([[False,  True, False]])
    """
    size = mean_keys.abs().amax(dim=-1).to(at_least_float32(mean_keys.dtype))
    largest = size.amax(dim=-1, keepdim=True)
    # What is not finite is no rounding: it has to be seen as the error that it is.
    return (size <= rounding(mean_keys.dtype) * largest) & largest.isfinite()


class ExactBuffers(nn.Module):
    """A module without parameters whose buffers keep their values, whatever it is cast to.

    Real ones stay in float32 or wider, whole ones as they are.

    ``added`` names buffers that states of older versions lack; these stay as they are then.
    """

    added: tuple[str, ...] = ()

    def _apply(self, fn: Any, recurse: bool = True) -> "ExactBuffers":
        exact = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            old = exact[name]
            assert buffer is not None  # torch would allow it
            assert old is not None
            kept = at_least_float32(buffer.dtype) if old.is_floating_point() else old.dtype
            if buffer.dtype != kept:
                self._buffers[name] = old.to(buffer.device, kept)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if saved is None and name in self.added:
                state_dict[prefix + name] = buffer
            elif saved is not None and saved.is_floating_point():
                # Whoever assigns a state instead of copying it would assign its dtype too.
                state_dict[prefix + name] = saved.to(at_least_float32(saved.dtype))
        super()._load_from_state_dict(state_dict, prefix, *rest)
