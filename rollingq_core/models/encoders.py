"""Encoders: from an input of one modality to its tokens, ``[B, L, d]``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from rollingq_core._checks import require_integer
from rollingq_core._extras import needs
from rollingq_core.models.weights import read_weights

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class TokenMLP(nn.Module):
    """One small MLP applied to each token, then positions and a layer norm.

    Parameters
    ----------
    token_dim
        Features of one token: channels x height x width of a patch, for a grid.
    num_tokens
        Number of tokens L.
    dim, hidden
        Output and hidden width.
    patch
        Height and width of a patch where the input is a grid ``[B, C, H, W]``, which is cut into
        patches row by row; None where it already is tokens ``[B, L, token_dim]``.
    positions
        Whether each place has a learned embedding.

    Raises
    ------
    ValueError
        A size that is no integer of at least 1. On calling, an input that does not make
        ``num_tokens`` tokens of ``token_dim`` features.
    """

    def __init__(
        self,
        token_dim: int,
        num_tokens: int,
        *,
        dim: int = 32,
        hidden: int = 64,
        patch: tuple[int, int] | None = None,
        positions: bool = True,
    ) -> None:
        super().__init__()
        _require_sizes(token_dim=token_dim, num_tokens=num_tokens, dim=dim, hidden=hidden)
        if patch is not None:
            _require_pair("patch", patch)
        self.shape, self.patch = [num_tokens, token_dim], patch
        self.mlp = nn.Sequential(nn.Linear(token_dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.positions = nn.Parameter(torch.zeros(num_tokens, dim)) if positions else None
        self.norm = nn.LayerNorm(dim)
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.02)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return tokens ``[B, L, dim]``."""
        tokens = inputs if self.patch is None else _cut(inputs, self.patch)
        if tokens is None or list(tokens.shape[1:]) != self.shape:
            raise ValueError(
                f"inputs: got shape {list(inputs.shape)}, expected one that makes {self.shape[0]} "
                f"tokens of {self.shape[1]} features (patch {self.patch})"
            )
        tokens = self.mlp(tokens)
        return self.norm(tokens if self.positions is None else tokens + self.positions)


def _cut(grid: Tensor, patch: tuple[int, int]) -> Tensor | None:
    if grid.dim() != 4 or any(n < p for n, p in zip(grid.shape[2:], patch, strict=True)):
        return None
    return unfold(grid, patch, stride=patch).mT


class ViTEncoder(nn.Module):
    """A timm vision transformer without its classifier: all tokens after the last layer norm.

    Its own class token comes first and counts as an ordinary key of its modality.

    Parameters
    ----------
    vit
        The transformer.
    """

    def __init__(self, vit: "VisionTransformer") -> None:
        super().__init__()
        self.vit = vit

    def forward(self, inputs: Tensor) -> Tensor:
        """Return tokens ``[B, L, dim]`` of a grid ``[B, C, H, W]``."""
        return self.vit.forward_features(inputs)


def without_last_norm(encoders: Mapping[str, nn.Module], fusion: nn.Module) -> None:
    """Take the last layer norm out of transformers that the fusion goes on with, as it says."""
    if not getattr(fusion, "continues_encoders", False):
        return
    for encoder in encoders.values():
        if isinstance(encoder, ViTEncoder):
            encoder.vit.norm = nn.Identity()


def small_vit(
    input_size: tuple[int, int],
    patch: tuple[int, int],
    *,
    channels: int = 1,
    dim: int = 32,
    depth: int = 2,
    num_heads: int = 2,
) -> ViTEncoder:
    """Return a small transformer, trained from scratch.

    Parameters
    ----------
    input_size, patch
        Height and width of the grid and of a patch. Rows and columns that fill no patch are left
        out, so that L is ``(H // h) * (W // w) + 1``.
    channels, dim, depth, num_heads
        Input channels, width, number of blocks and of heads (a divisor of the width).

    Raises
    ------
    ValueError
        A size that is no integer of at least 1, or heads that do not divide the width.
    """
    _require_pair("input_size", input_size)
    _require_pair("patch", patch)
    _require_sizes(channels=channels, dim=dim, depth=depth, num_heads=num_heads)
    if dim % num_heads:
        raise ValueError(f"num_heads: got {num_heads}, expected a divisor of dim {dim}")
    # Here and below, as most models need no timm, which is slow to load.
    with needs("train"):
        from timm.models.vision_transformer import VisionTransformer

    return ViTEncoder(
        VisionTransformer(
            img_size=input_size,
            patch_size=patch,
            in_chans=channels,
            embed_dim=dim,
            depth=depth,
            num_heads=num_heads,
            num_classes=0,
            global_pool="",
        )
    )


def vit_b16(
    input_size: tuple[int, int],
    *,
    channels: int,
    depth: int = 4,
    pretrained: bool = False,
    weights: str | Path | None = None,
    model_name: str = "vit_base_patch16_224.augreg_in21k",
) -> ViTEncoder:
    """Return ViT-B/16 cut to its first blocks, the paper's backbone (d = 768).

    Parameters
    ----------
    input_size
        Height and width of the grid, for example ``(257, 188)`` (177 tokens) or ``(224, 224)``
        (197 tokens).
    channels
        Input channels: 1 for a spectrogram, 3 for a picture.
    depth
        Number of blocks kept, from 1 to 12.
    pretrained
        Whether to download weights under timm's name ``model_name``; position embeddings and input
        channels are adapted by timm.
    weights
        A file with those weights, of at least ``depth`` blocks, in place of a download: safetensors
        or what ``torch.save`` wrote, with timm's names.

    Raises
    ------
    OSError
        ``weights`` is no file that can be read.
    ValueError
        A size that is no integer of at least 1, or ``depth`` above 12. A file that is damaged,
        holds more than data, or weights of another model.
    """
    _require_pair("input_size", input_size)
    _require_sizes(channels=channels)
    require_integer("depth", depth, at_least=1, at_most=12)
    with needs("train"):
        import timm

    sizes: dict[str, Any] = {"img_size": input_size, "in_chans": channels, "num_classes": 0}
    if weights is None:
        vit: Any = timm.create_model(model_name, pretrained=pretrained, **sizes)
        vit.blocks = vit.blocks[:depth]
        return ViTEncoder(vit)
    state = _of_first_blocks(read_weights(weights), depth)
    try:
        vit = timm.create_model(
            model_name,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": dict(state)},
            depth=depth,
            **sizes,
        )
        # timm itself leaves what is missing as it was drawn.
        missing = [name for name in vit.state_dict() if name not in state]
        if missing:
            raise KeyError(f"no {', '.join(missing[:3])}")
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"weights: got {weights}, expected those of {model_name} with at least {depth} blocks "
            f"({reason})"
        ) from error
    return ViTEncoder(vit)


def _of_first_blocks(weights: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Return the weights without those of later blocks."""
    kept = {}
    for name, tensor in weights.items():
        block = re.match(r"blocks\.(\d+)\.", name)
        if block is None or int(block[1]) < depth:
            kept[name] = tensor
    return kept


def _require_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        require_integer(name, size, at_least=1)


def _require_pair(name: str, pair: tuple[int, int]) -> None:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"{name}: got {pair!r}, expected a height and a width")
    for size in pair:
        require_integer(name, size, at_least=1)
