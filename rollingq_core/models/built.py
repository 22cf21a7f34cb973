"""The book's small model with other backbones: transformers and ResNets that a CPU affords."""

import torch
from torch import nn

from rollingq_core._checks import require_integer
from rollingq_core._extras import needs
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.settings import Setting

with needs("train"):
    from rollingq_core.data.dataset import DataSplits
    from rollingq_core.models.backbones import SequenceTransformer, small_resnet
    from rollingq_core.models.encoders import small_vit
    from rollingq_core.models.small import Fusion, assembled, chosen_shapes


def build_vit_model(
    data: DataSplits,
    setting: Setting,
    seed: int,
    *,
    fusion: Fusion = AttentionFusion.of_shape,
    modalities: tuple[str, ...] | None = None,
    depth: int = 4,
) -> MultimodalModel:
    """Return an untrained model whose encoders are small transformers (Table 6).

    A grid is cut into the data's patches by a ViT, whose class token stands for the modality. Of
    what is a sequence already, the mean of all steps does.

    Parameters
    ----------
    data, setting, seed, fusion, modalities
        As in :func:`rollingq_core.models.small.build_model`.
    depth
        Blocks of each encoder.

    Raises
    ------
    ValueError
        A modality that the data has not, or a depth that is no integer of at least 1.
    """
    shapes = chosen_shapes(data, modalities)
    torch.manual_seed(require_integer("seed", seed, at_least=0))
    encoders: dict[str, nn.Module] = {}
    for name, shape in shapes.items():
        if data.patch is None:
            length, features = shape
            encoders[name] = SequenceTransformer(
                features, length, dim=setting.dim, depth=depth, num_heads=2
            )
        else:
            channels, height, width = shape
            encoders[name] = small_vit(
                (height, width), data.patch[name], channels=channels, dim=setting.dim, depth=depth
            )
    return assembled(data, setting, encoders, fusion, "mean" if data.patch is None else "first")


def build_resnet_model(
    data: DataSplits,
    setting: Setting,
    seed: int,
    *,
    fusion: Fusion = AttentionFusion.of_shape,
    modalities: tuple[str, ...] | None = None,
) -> MultimodalModel:
    """Return an untrained model whose encoders are ResNet18 for small pictures (Table 7).

    Its arguments are those of :func:`rollingq_core.models.small.build_model`; data that are no
    grids are refused with a ``ValueError``.
    """
    shapes = chosen_shapes(data, modalities)
    torch.manual_seed(require_integer("seed", seed, at_least=0))
    encoders: dict[str, nn.Module] = {}
    for name, shape in shapes.items():
        if len(shape) != 3:
            raise ValueError(
                f"data: got {name} of shape {list(shape)} in {data.name!r}, expected grids "
                "[channels, H, W]"
            )
        channels, height, width = shape
        encoders[name] = small_resnet((height, width), channels=channels, dim=setting.dim)
    return assembled(data, setting, encoders, fusion, "mean")
