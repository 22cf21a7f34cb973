"""Argument checks whose messages name the argument, what came and what is expected."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral

import torch
from torch import Tensor

_vectorised = ContextVar("vectorised", default=False)


@contextmanager
def vectorised() -> Iterator[None]:
    """Look at shapes only: inside ``torch.func.vmap`` no single value can be read."""
    token = _vectorised.set(True)
    try:
        yield
    finally:
        _vectorised.reset(token)


def require_tensor(
    name: str,
    value: object,
    axes: Sequence[str],
    like: Tensor | None = None,
    *,
    finite: bool = True,
):
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


def require_direction(name: str, value: object, axes: Sequence[str], like: Tensor | None = None):
    """As :func:`require_tensor`, and each row must have a norm above 0."""
    require_tensor(name, value, axes, like)
    pointing = value.any(dim=-1)
    if not pointing.all():
        raise ValueError(
            f"{name}: got {int((~pointing).sum())} rows of zero norm, "
            "expected rows that have a direction"
        )
    return value


def require_finite(name: str, value: Tensor) -> None:
    """Raise ``ValueError`` when ``value`` holds a NaN or an infinity."""
    # A sum is finite only if all values are. One that isn't may have overflowed: then look at each.
    if math.isfinite(value.detach().sum()):
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
    value: float,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> float:
    """Return ``value`` as a float when it is a finite number inside the range."""
    try:
        # Neither a text nor a yes or no is a number, though Python reads one from them.
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)
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


def require_observation(query: Tensor, mean_keys: Tensor) -> None:
    """Check the shapes of what RollingQ observes: ``[d]`` or ``[B, d]``, and ``[B, M, d]``."""
    if not isinstance(query, Tensor) or not isinstance(mean_keys, Tensor):
        raise ValueError(
            f"output: got a query of type {type(query).__name__} and mean_keys of type "
            f"{type(mean_keys).__name__}, expected a tensor each"
        )
    keys, rows = list(mean_keys.shape), list(query.shape)
    if len(keys) != 3 or 0 in keys or keys[1] < 2:
        raise ValueError(f"output.mean_keys: got shape {keys}, expected [B, M, d] with M >= 2")
    if rows not in (keys[2:], keys[::2]):
        raise ValueError(f"output.query: got shape {rows}, expected {keys[2:]} or {keys[::2]}")


def require_tokens(
    tokens: Sequence[Tensor], masks: Sequence[Tensor | None] | None, dim: int
) -> Tensor | None:
    """Check a fusion layer's input, and return its padding, ``[B, sum L]`` bool, if it has any."""
    if isinstance(tokens, Tensor) or len(tokens) < 2:
        raise ValueError(
            f"tokens: got {type(tokens).__name__}, expected a sequence of 2 or more modalities"
        )
    masks = [None] * len(tokens) if masks is None else list(masks)
    if len(masks) != len(tokens):
        raise ValueError(f"key_padding_masks: got {len(masks)}, expected {len(tokens)} or None")
    for index, (z, mask) in enumerate(zip(tokens, masks, strict=True)):
        shape = list(z.shape)
        if len(shape) != 3 or 0 in shape or shape[::2] != [tokens[0].shape[0], dim]:
            raise ValueError(
                f"tokens[{index}]: got shape {shape}, expected [B, L, {dim}] "
                "with the same B for all modalities, not empty"
            )
        if mask is not None and (mask.dtype != torch.bool or mask.shape != z.shape[:2]):
            raise ValueError(
                f"key_padding_masks[{index}]: got {mask.dtype} of shape {list(mask.shape)}, "
                f"expected bool of shape {shape[:2]}"
            )
    if all(mask is None for mask in masks):
        return None
    columns = [
        z.new_zeros(z.shape[:2], dtype=torch.bool) if mask is None else mask
        for z, mask in zip(tokens, masks, strict=True)
    ]
    padded = torch.cat(columns, dim=1)
    if not _vectorised.get() and padded.all(dim=1).any():
        raise ValueError("key_padding_masks: got a sample with only padding, expected a token")
    return padded


def require_result(fused: Tensor, tokens: Sequence[Tensor]) -> None:
    """Raise ``ValueError`` when a token holds a NaN or an infinity, judged by what became of it.

    What is not finite in any token reaches ``fused``, so the tokens need no pass of their own.
    """
    if torch.compiler.is_compiling() or _vectorised.get() or torch.isfinite(fused).all():
        return
    for index, z in enumerate(tokens):
        require_finite(f"tokens[{index}]", z)
