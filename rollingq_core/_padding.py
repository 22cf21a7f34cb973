"""Which tokens are padding: a mask beside each modality that needs one.

A batch carries the mask of a modality under the modality's name and ``_padding``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SUFFIX = "_padding"


def padding_name(modality: str) -> str:
    """Return the name under which a batch carries a modality's padding."""
    return f"{modality}{SUFFIX}"


def separated(inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a batch's modalities, and the padding of those that have any, by modality."""
    padding = {name: inputs[padding_name(name)] for name in inputs if padding_name(name) in inputs}
    masks = {padding_name(name) for name in padding}
    return {name: tensor for name, tensor in inputs.items() if name not in masks}, padding


def as_padding(padding: Mapping[str, Any] | None, names: Mapping[str, Any], size: int):
    """Return the masks ``[N, L]`` of ``size`` samples, by modality.

    Raises
    ------
    ValueError
        A mask of no modality among ``names``, not boolean, of another shape or number of samples;
        a modality whose name is that of a mask; or a sample that has no token in any modality.
    """
    if clash := [name for name in names if padding_name(name) in names]:
        taken = [padding_name(name) for name in clash]
        raise ValueError(f"inputs: got modalities {taken}, expected other names: those of padding")
    padding = {name: _as_mask(name, mask) for name, mask in (padding or {}).items()}
    if foreign := sorted(set(padding) - set(names)):
        raise ValueError(f"padding: got modalities {foreign}, expected some of {[*names]}")
    for name, mask in padding.items():
        if mask.dtype != torch.bool or mask.ndim != 2 or len(mask) != size:
            raise ValueError(
                f"padding[{name!r}]: got {mask.dtype} of shape {list(mask.shape)}, "
                f"expected bool of shape [{size}, L]"
            )
    if len(padding) == len(names):
        empty = torch.stack([mask.all(dim=1) for mask in padding.values()]).all(dim=0)
        if empty.any():
            raise ValueError(
                f"padding: got {int(empty.sum())} samples with only padding, expected a token"
            )
    return padding


def _as_mask(name: str, mask: Any) -> Tensor:
    try:
        return torch.as_tensor(mask)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(mask).__name__
        raise ValueError(f"padding[{name!r}]: got {kind}, expected bool ({error})") from error


def pooled(tokens: Tensor, mask: Tensor | None, pool: str) -> Tensor:
    """Return one vector for the tokens ``[B, L, d]`` of a modality, ``[B, d]``.

    It is the ``"mean"`` of the tokens, the ``"first"`` or the ``"last"``, among those that are no
    padding; zeros where there is none.
    """
    ends = {"first": 0, "last": -1}
    if mask is None:
        return tokens[:, ends[pool]] if pool in ends else tokens.mean(dim=1)
    tokens = tokens.masked_fill(mask.unsqueeze(-1), 0)
    if pool in ends:
        # The end itself where there is none: its zeros.
        order = (~mask).to(torch.uint8)
        place = order.argmax(dim=1) if pool == "first" else -1 - order.flip(1).argmax(dim=1)
        place = place % tokens.shape[1]
        return tokens.take_along_dim(place[:, None, None], dim=1).squeeze(1)
    return tokens.sum(dim=1) / (~mask).sum(dim=1, keepdim=True).clamp(min=1)
