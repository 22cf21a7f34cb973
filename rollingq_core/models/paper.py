"""The paper's model, and the same in small."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from rollingq_core._checks import require_integer
from rollingq_core._extras import needs
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.models.multimodal import MultimodalModel

with needs("train"):
    from rollingq_core.data.dataset import DataSplits
    from rollingq_core.models.encoders import ViTEncoder, small_vit, vit_b16, without_last_norm
    from rollingq_core.models.small import Fusion, chosen_shapes

PATCH = 16
DROPOUT = 0.2


def build_paper_model(
    data: DataSplits,
    *,
    cls_std: float = 0.02,
    cls_self_key: bool = False,
    pretrained: bool = False,
    weights: str | Path | None = None,
    fusion: Fusion = AttentionFusion.of_shape,
    modalities: tuple[str, ...] | None = None,
    seed: int = 0,
) -> MultimodalModel:
    """Return the paper's model: two ViT-B/16 of four blocks, and single-head attention fusion.

    As in the published code, the fusion has biases, an output projection and dropout of 0.2 after
    the softmax and after the projection, and a probe reads its encoder's class token.

    Parameters
    ----------
    data
        Decides the shapes; grids of at least 16 x 16.
    cls_std
        Standard deviation of the fusion's class token at the start.
    cls_self_key
        Whether the class token is also a key, as in the code but not in the paper.
    pretrained
        Whether the encoders start from ImageNet-21k. Where the weights are out of reach, there is
        a warning, and they start from scratch.
    weights
        A file with such weights for both encoders, as in
        :func:`rollingq_core.models.encoders.vit_b16`, in place of a download.
    fusion
        From a :class:`FusionShape` to the fusion layer.
    modalities
        Those of the data to use; all by default.
    seed
        Seed of the initial weights.

    Raises
    ------
    OSError
        ``weights`` is no file that can be read.
    ValueError
        Inputs that can't be cut into 16 x 16 patches, or a file without such weights.
    """
    shapes = _grids(data, modalities)
    torch.manual_seed(require_integer("seed", seed, at_least=0))
    encoders: dict[str, ViTEncoder] | None = None
    if weights is not None:
        encoders = {
            name: vit_b16(size[1:], channels=size[0], weights=weights)
            for name, size in shapes.items()
        }
    elif pretrained:
        encoders = _pretrained(shapes)
    if encoders is None:
        encoders = {name: vit_b16(size[1:], channels=size[0]) for name, size in shapes.items()}
        for encoder in encoders.values():
            encoder.apply(_initialise)
    shape = _shape(data, encoders, 768, cls_std, cls_self_key)
    return _assemble(encoders, fusion(shape), shape)


def build_small_paper_model(
    data: DataSplits,
    *,
    cls_std: float = 0.02,
    dim: int = 32,
    fusion: Fusion = AttentionFusion.of_shape,
    modalities: tuple[str, ...] | None = None,
    seed: int = 0,
) -> MultimodalModel:
    """Return the paper's model in small, for tests: each encoder has two blocks of width ``dim``.

    ``data.patch`` says how grids are cut; the other arguments are those of
    :func:`build_paper_model`.
    """
    shapes = _grids(data, modalities, smallest=1)
    torch.manual_seed(require_integer("seed", seed, at_least=0))
    assert data.patch is not None  # as there are grids
    encoders = {
        name: small_vit(size[1:], data.patch[name], channels=size[0], dim=dim)
        for name, size in shapes.items()
    }
    shape = _shape(data, encoders, dim, cls_std)
    return _assemble(encoders, fusion(shape), shape)


def _grids(
    data: DataSplits, modalities: tuple[str, ...] | None, smallest: int = PATCH
) -> dict[str, tuple[int, int, int]]:
    grids = {}
    for name, shape in chosen_shapes(data, modalities).items():
        if len(shape) != 3 or min(shape[1:]) < smallest:
            raise ValueError(
                f"data: got {name} of shape {list(shape)} in {data.name!r}, expected grids "
                f"[channels, H, W] of at least {smallest} x {smallest}"
            )
        channels, height, width = shape
        grids[name] = (channels, height, width)
    return grids


def _pretrained(shapes: dict[str, tuple[int, int, int]]) -> dict[str, ViTEncoder] | None:
    try:
        return {
            name: vit_b16(size[1:], channels=size[0], pretrained=True)
            for name, size in shapes.items()
        }
    except Exception as error:  # timm, the hub and the network raise errors of their own
        reason = (str(error).splitlines() or [""])[0]
        warnings.warn(
            f"pretrained: the ImageNet-21k weights are out of reach, so the encoders start from "
            f"scratch; a file of them can be given as weights ({type(error).__name__}: {reason})",
            stacklevel=3,
        )
        return None


def _shape(
    data: DataSplits,
    encoders: Mapping[str, nn.Module],
    dim: int,
    cls_std: float,
    cls_self_key: bool = False,
) -> FusionShape:
    return FusionShape(
        dim, len(data.classes), tuple(encoders), "first", cls_std, cls_self_key, DROPOUT
    )


def _assemble(
    encoders: Mapping[str, nn.Module], fusion: nn.Module, shape: FusionShape
) -> MultimodalModel:
    without_last_norm(encoders, fusion)
    model = MultimodalModel(encoders, fusion, shape.num_classes, pool=shape.pool)
    model.probes.apply(_initialise)
    return model


def _initialise(module: nn.Module) -> None:
    """Draw the weights of one module as the published code does."""
    rules: dict[type, Callable] = {
        nn.Linear: nn.init.xavier_normal_,
        nn.Conv2d: lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"),
    }
    for kind, rule in rules.items():
        if isinstance(module, kind):
            rule(module.weight)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
