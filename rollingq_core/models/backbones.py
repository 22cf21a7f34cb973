"""Other backbones of the paper: ResNet18 (its Table 7), and a Transformer for sequences (MOSEI)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rollingq_core._checks import require_integer
from rollingq_core._extras import needs

if TYPE_CHECKING:
    from timm.models.resnet import ResNet

# Pictures at least so large are halved by the first convolution.
LARGE = 32


class ResNetEncoder(nn.Module):
    """A ResNet without pooling and classifier: the places of its feature map are the tokens.

    Of a clip ``[B, C, T, H, W]``, all frames' places are tokens, frame by frame. There is no class
    token; what stands for the modality is the mean of its tokens.

    Parameters
    ----------
    resnet
        The network.
    dim
        Token dimension to map the feature map's channels to, with a layer norm after it; None
        leaves the channels as they are.
    """

    def __init__(self, resnet: "ResNet", dim: int | None = None) -> None:
        super().__init__()
        self.resnet = resnet
        channels = int(resnet.num_features)
        self.dim = channels if dim is None else require_integer("dim", dim, at_least=1)
        self.out: nn.Module = nn.Identity()
        if dim is not None:
            self.out = nn.Sequential(nn.Linear(channels, dim), nn.LayerNorm(dim))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return tokens ``[B, L, dim]`` of grids ``[B, C, H, W]`` or clips ``[B, C, T, H, W]``."""
        batch, frames = len(inputs), 1
        if inputs.dim() == 5:
            frames = inputs.shape[2]
            inputs = inputs.transpose(1, 2).flatten(0, 1)  # [B T, C, H, W]
        places = self.resnet.forward_features(inputs).flatten(2).mT  # [B T, h w, channels]
        return self.out(places.reshape(batch, frames * places.shape[1], -1))


def resnet18(channels: int) -> ResNetEncoder:
    """Return ResNet18, the backbone of the paper's Table 7 (d = 512), trained from scratch.

    It is timm's, which has torchvision's parts, names and numbers, and takes any number of
    channels.

    Parameters
    ----------
    channels
        Input channels: 1 for a spectrogram (257 x 188 gives 9 x 6 tokens), 3 for a picture
        (224 x 224 gives 7 x 7).

    Raises
    ------
    ValueError
        Channels that are no integer of at least 1.
    """
    require_integer("channels", channels, at_least=1)
    with needs("train"):
        import timm

    resnet: Any = timm.create_model("resnet18", in_chans=channels, num_classes=0, global_pool="")
    return ResNetEncoder(resnet)


def small_resnet(
    input_size: tuple[int, int], *, channels: int = 1, dim: int = 32, width: int = 8
) -> ResNetEncoder:
    """Return ResNet18 for small pictures: narrower, and with less halving.

    Parameters
    ----------
    input_size
        Height and width; the first convolution halves those of at least 32, and nothing pools after
        it. The blocks halve twice.
    channels, dim
        Input channels, and token dimension.
    width
        Channels of the first blocks; those of the others are 2, 4 and 8 times as many.

    Raises
    ------
    ValueError
        A size that is no integer of at least 1.
    """
    sizes = {"height": input_size[0], "width of input_size": input_size[1]}
    for name, size in {**sizes, "channels": channels, "width": width}.items():
        require_integer(name, size, at_least=1)
    with needs("train"):
        from timm.models.resnet import BasicBlock, ResNet

    resnet: Any = ResNet(
        BasicBlock,  # type: ignore[arg-type]  # timm's type is that of a block, not of its class
        (2, 2, 2, 2),
        num_classes=0,
        in_chans=channels,
        global_pool="",
        output_stride=16,
        channels=(width, 2 * width, 4 * width, 8 * width),
        stem_width=width,
    )
    stride = 2 if min(input_size) >= LARGE else 1
    first = resnet.conv1.out_channels
    resnet.conv1 = nn.Conv2d(channels, first, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out")
    resnet.maxpool = nn.Identity()
    return ResNetEncoder(resnet, dim)


class SequenceTransformer(nn.Module):
    """A Transformer over a sequence of feature vectors, as the paper uses for CMU-MOSEI.

    Parameters
    ----------
    num_features, length
        Features of each step, and the number of steps L.
    dim, depth, num_heads
        Width, blocks and heads; the paper has 4 blocks of width 120.

    Raises
    ------
    ValueError
        A size that is no integer of at least 1, or heads that do not divide the width. On calling,
        a sequence of another length.
    """

    def __init__(
        self, num_features: int, length: int, *, dim: int = 120, depth: int = 4, num_heads: int = 8
    ) -> None:
        super().__init__()
        sizes = {"num_features": num_features, "length": length, "dim": dim, "depth": depth}
        for name, size in {**sizes, "num_heads": num_heads}.items():
            require_integer(name, size, at_least=1)
        if dim % num_heads:
            raise ValueError(f"num_heads: got {num_heads}, expected a divisor of dim {dim}")
        self.dim, self.length = dim, length
        self.embed = nn.Linear(num_features, dim)
        self.positions = nn.Parameter(torch.empty(length, dim))
        block = nn.TransformerEncoderLayer(
            dim, num_heads, 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            block, depth, nn.LayerNorm(dim), enable_nested_tensor=False
        )
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, inputs: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return tokens ``[B, L, dim]`` of steps ``[B, L, num_features]``.

        ``padding`` is ``[B, L]`` bool, True where a step is none. No step reads those.
        """
        if inputs.dim() != 3 or inputs.shape[1] != self.length:
            raise ValueError(
                f"inputs: got shape {list(inputs.shape)}, expected [B, {self.length}, "
                f"{self.embed.in_features}]"
            )
        if padding is None:
            return self.blocks(self.embed(inputs) + self.positions)
        steps = self.embed(inputs.masked_fill(padding.unsqueeze(-1), 0)) + self.positions
        # Where there is no step at all, all are read, so that no NaN is made; none is used.
        unread = padding & ~padding.all(dim=1, keepdim=True)
        return self.blocks(steps, src_key_padding_mask=unread)
