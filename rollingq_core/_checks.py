"""Argument checks whose messages name the argument, what came and what is expected."""

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor


def holds(condition: Tensor) -> bool:
    """Tell whether a condition on values is known to hold.

    None is known while a graph is traced (compile, export, jit, fx) or under ``torch.func.vmap``:
    a tensor has no value then that Python could decide by.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    try:
        return bool(condition)
    except RuntimeError:
        return False


def require_tensor(
    name: str,
    value: object,
    axes: Sequence[str],
    like: Tensor | None = None,
    *,
    finite: bool = True,
) -> Tensor:
    """Return ``value`` when it is a finite, non-empty float tensor with these axes.

    Parameters
    ----------
    name
        The argument's name, for the message.
    value
        What the caller passed.
    axes
        One word an axis, for example ``("B", "d")``.
    like
        A checked tensor whose trailing sizes ``value`` must share.
    finite
        False looks at no value.

    Raises
    ------
    ValueError
        Not a float tensor, wrong rank or size, an empty axis, or a value that is not finite.
    """
    expected = f"a float tensor of shape [{', '.join(axes)}]"
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: got {type(value).__name__}, expected {expected}")
    if not value.is_floating_point():
        raise ValueError(f"{name}: got dtype {value.dtype}, expected {expected}")
    if value.dim() != len(axes) or value.numel() == 0:
        raise ValueError(f"{name}: got shape {list(value.shape)}, expected {expected}, not empty")
    if like is not None and value.shape != like.shape[-value.dim() :]:
        raise ValueError(
            f"{name}: got shape {list(value.shape)}, "
            f"expected {list(like.shape[-value.dim() :])} to match"
        )
    if finite:
        require_finite(name, value)
    return value


def require_direction(
    name: str, value: object, axes: Sequence[str], like: Tensor | None = None
) -> Tensor:
    """As :func:`require_tensor`, and each row must have a norm above 0."""
    value = require_tensor(name, value, axes, like)
    pointing = value.any(dim=-1)
    if holds(~pointing.all()):
        raise ValueError(
            f"{name}: got {int((~pointing).sum())} rows of zero norm, "
            "expected rows that have a direction"
        )
    return value


def require_finite(name: str, value: Tensor) -> None:
    """Raise ``ValueError`` when ``value`` holds a NaN or an infinity."""
    # A sum is finite only if all values are. One that isn't may have overflowed: then look at each.
    if not holds(~value.detach().sum().isfinite()):
        return
    finite = torch.isfinite(value)
    if not finite.all():
        raise ValueError(
            f"{name}: got {int((~finite).sum())} non-finite values, expected finite numbers only"
        )


def require_width(name: str, value: object, dim: int) -> None:
    """Raise ``ValueError`` when ``value`` is no float tensor of shape ``[..., dim]``."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = getattr(value, "dtype", type(value).__name__)
        raise ValueError(f"{name}: got {kind}, expected a float tensor of shape [..., {dim}]")
    if value.shape[-1:] != (dim,):
        raise ValueError(f"{name}: got shape {list(value.shape)}, expected [..., {dim}]")


def require_number(
    name: str,
    value: float | Tensor,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> float:
    """Return ``value`` as a float when it is a finite number inside the range."""
    try:
        # Neither a text nor a yes or no is a number, though Python reads one from them.
        number = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number <= above or not at_least <= number <= at_most:
        bound = f"above {above:g}" if above > at_least else f"of at least {at_least:g}"
        bound += f" and at most {at_most:g}" if at_most < math.inf else ""
        raise ValueError(f"{name}: got {value!r}, expected a finite number {bound}")
    return number


def require_integer(
    name: str, value: int, *, at_least: float = -math.inf, at_most: float = math.inf
) -> int:
    """Return ``value`` as an int when it is an integer inside the range.

    One of Python's or numpy's; a float is refused even where it is whole, and so is a bool.
    """
    if (
        not isinstance(value, Integral)
        or isinstance(value, bool)
        or not at_least <= value <= at_most
    ):
        bound = f" of at least {at_least}" if at_least > -math.inf else ""
        bound += f" and at most {at_most}" if at_most < math.inf else ""
        raise ValueError(f"{name}: got {value!r}, expected an integer{bound}")
    return int(value)


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` when ``value`` is none of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}, expected one of {tuple(choices)}")


def require_observation(query: object, mean_keys: object) -> tuple[Tensor, Tensor]:
    """Return what RollingQ observes when it has shape ``[d]`` or ``[B, d]``, and ``[B, M, d]``."""
    if not isinstance(query, Tensor) or not isinstance(mean_keys, Tensor):
        raise ValueError(
            f"output: got a query of type {type(query).__name__} and mean_keys of type "
            f"{type(mean_keys).__name__}, expected a tensor each"
        )
    for name, value in (("query", query), ("mean_keys", mean_keys)):
        if not value.is_floating_point():
            raise ValueError(f"output.{name}: got dtype {value.dtype}, expected a float tensor")
    keys, rows = list(mean_keys.shape), list(query.shape)
    if len(keys) != 3 or 0 in keys or keys[1] < 2:
        raise ValueError(f"output.mean_keys: got shape {keys}, expected [B, M, d] with M >= 2")
    if rows not in (keys[2:], keys[::2]):
        raise ValueError(f"output.query: got shape {rows}, expected {keys[2:]} or {keys[::2]}")
    return query, mean_keys


def require_tokens(
    tokens: Sequence[Tensor],
    masks: Sequence[Tensor | None] | None,
    like: Tensor,
    *,
    static: bool = False,
) -> Tensor | None:
    """Check a fusion layer's input, and return its padding, ``[B, sum L]`` bool, if it has any.

    Tokens have the size ``d`` of ``like``'s last axis, its device and, outside autocast, its dtype.
    A ``static`` fusion may have one modality, and samples without any token.
    """
    least = 1 if static else 2
    if not isinstance(tokens, Sequence) or len(tokens) < least:
        raise ValueError(
            f"tokens: got {type(tokens).__name__}, "
            f"expected a sequence of {least} or more modalities"
        )
    masks = [None] * len(tokens) if masks is None else masks
    if not isinstance(masks, (Sequence, Tensor)) or len(masks) != len(tokens):
        count = len(masks) if isinstance(masks, (Sequence, Tensor)) else type(masks).__name__
        raise ValueError(f"key_padding_masks: got {count}, expected {len(tokens)} or None")
    for index, (z, mask) in enumerate(zip(tokens, masks, strict=True)):
        _require_modality(f"tokens[{index}]", z, like)
        if z.shape[0] != tokens[0].shape[0]:
            raise ValueError(
                f"tokens[{index}]: got shape {list(z.shape)}, expected the batch size "
                f"{tokens[0].shape[0]} of tokens[0]"
            )
        if mask is not None:
            _require_mask(f"key_padding_masks[{index}]", mask, z)
    if all(mask is None for mask in masks):
        return None
    columns = [
        z.new_zeros(z.shape[:2], dtype=torch.bool) if mask is None else mask
        for z, mask in zip(tokens, masks, strict=True)
    ]
    padded = torch.cat(columns, dim=1)
    if not static and holds(padded.all(dim=1).any()):
        raise ValueError("key_padding_masks: got a sample with only padding, expected a token")
    return padded


def _require_modality(name: str, z: Tensor, like: Tensor) -> None:
    given = None
    if not isinstance(z, Tensor):
        given = type(z).__name__
    elif not z.is_floating_point():
        given = f"dtype {z.dtype}"
    elif z.dim() != 3 or 0 in z.shape or z.shape[-1] != like.shape[-1]:
        given = f"shape {list(z.shape)}"
    if given is not None:
        raise ValueError(
            f"{name}: got {given}, expected a float tensor of shape [B, L, {like.shape[-1]}], "
            "the same B for all modalities, not empty"
        )
    if z.device != like.device:
        raise ValueError(f"{name}: got one on {z.device}, expected {like.device}, the layer's")
    if z.dtype != like.dtype and not torch.is_autocast_enabled(z.device.type):
        raise ValueError(f"{name}: got {z.dtype}, expected {like.dtype}, the layer's")


def _require_mask(name: str, mask: object, z: Tensor) -> None:
    given = None
    if not isinstance(mask, Tensor):
        given = type(mask).__name__
    elif mask.dtype != torch.bool or mask.shape != z.shape[:2] or mask.device != z.device:
        given = f"{mask.dtype} of shape {list(mask.shape)} on {mask.device}"
    if given is not None:
        raise ValueError(
            f"{name}: got {given}, "
            f"expected a bool tensor of shape {list(z.shape[:2])} on {z.device}"
        )


def require_result(fused: Tensor, tokens: Sequence[Tensor]) -> None:
    """Raise ``ValueError`` when a token holds a NaN or an infinity, judged by what became of it.

    What is not finite in any token reaches ``fused``, so the tokens need no pass of their own.
    """
    if holds(~torch.isfinite(fused).all()):
        for index, z in enumerate(tokens):
            require_finite(f"tokens[{index}]", z)


def require_some_of(name: str, values: Sequence[str], choices: Sequence[str]) -> None:
    """Raise ``ValueError`` when ``values`` is empty, or has one twice or one that is no choice."""
    if not values or not set(values) <= set(choices) or len(set(values)) != len(values):
        raise ValueError(f"{name}: got {[*values]}, expected some of {[*choices]}")
