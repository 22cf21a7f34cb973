"""The book's own model: small encoders for a CPU."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import nn

from rollingq_core._checks import require_integer
from rollingq_core._extras import needs
from rollingq_core._padding import separated
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.settings import Setting

with needs("train"):
    from rollingq_core.data.dataset import DataSplits
    from rollingq_core.models.encoders import TokenMLP, without_last_norm

Fusion = Callable[[FusionShape], nn.Module]


def build_model(
    data: DataSplits,
    setting: Setting,
    seed: int,
    *,
    fusion: Fusion = AttentionFusion.of_shape,
    modalities: tuple[str, ...] | None = None,
) -> MultimodalModel:
    """Return an untrained model for the data; the same seed gives the same weights.

    Parameters
    ----------
    data
        Decides the shapes.
    setting
        Width, class token and positions.
    seed
        Seed of the initial weights.
    fusion
        From a :class:`FusionShape` to the fusion layer.
    modalities
        Those of the data to use; all by default.

    Raises
    ------
    ValueError
        A modality that the data has not.
    """
    shapes = chosen_shapes(data, modalities)
    torch.manual_seed(require_integer("seed", seed, at_least=0))
    encoders: dict[str, nn.Module] = {}
    for name, shape in shapes.items():
        patch = data.patch[name] if data.patch else None
        if patch is None:
            num_tokens, token_dim = shape
        else:
            channels, height, width = shape
            num_tokens = (height // patch[0]) * (width // patch[1])
            token_dim = channels * patch[0] * patch[1]
        encoders[name] = TokenMLP(
            token_dim, num_tokens, dim=setting.dim, patch=patch, positions=setting.positions
        )
    return assembled(data, setting, encoders, fusion)


def assembled(
    data: DataSplits,
    setting: Setting,
    encoders: Mapping[str, nn.Module],
    fusion: Fusion,
    pool: Literal["mean", "first"] = "mean",
) -> MultimodalModel:
    """Return the model of these encoders with a fusion of their shape."""
    classes = len(data.classes)
    layer = fusion(FusionShape(setting.dim, classes, tuple(encoders), pool, setting.cls_std))
    without_last_norm(encoders, layer)
    return MultimodalModel(encoders, layer, classes, pool)


def input_shapes(data: DataSplits) -> dict[str, tuple[int, ...]]:
    """Return the shape of one sample, by modality."""
    inputs, _ = separated(data.train.__getitems__([0])[0])
    return {name: tuple(values.shape[1:]) for name, values in inputs.items()}


def chosen_shapes(
    data: DataSplits, modalities: tuple[str, ...] | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the shape of one sample by modality, of those chosen."""
    shapes = input_shapes(data)
    if modalities is None:
        return shapes
    if missing := [name for name in modalities if name not in shapes]:
        raise ValueError(
            f"modalities: got {missing}, expected some of {[*shapes]}, those of {data.name!r}"
        )
    return {name: shapes[name] for name in modalities}
