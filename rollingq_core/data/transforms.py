"""What becomes of stored samples as they are read: scaled spectrograms, cropped pictures."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

SIDE = 224
# Mean and standard deviation of ImageNet's training pictures, by colour.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Standardise:
    """Subtract a mean and divide by a standard deviation; the result is float32."""

    mean: float
    deviation: float

    def __call__(self, batch: Tensor) -> Tensor:
        """Return a new batch of the same shape."""
        return batch.to(torch.float32, copy=True).sub_(self.mean).div_(self.deviation)


def cut_out(clip: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Return a view of the same piece of each of a clip's pictures, ``[T, C, H, W]``."""
    return clip[..., top : top + height, left : left + width]


class Pictures:
    """From stored pictures to what a backbone trained on ImageNet expects.

    A clip's pictures come out one below the other: a backbone cuts them into patches all the same,
    and each patch has a position of its own.

    Parameters
    ----------
    augment
        True cuts and flips at random, anew each time (torch's global generator draws): a piece of
        8 to 100 % of the area, scaled to the full size, mirrored half the time; of one clip the
        same piece in all pictures. False scales the whole picture, which changes its proportions
        if it isn't square.
    """

    channels = 3
    means: tuple[float, ...] = IMAGENET_MEAN
    deviations: tuple[float, ...] = IMAGENET_STD

    def __init__(self, augment: bool) -> None:
        # Here, as torchvision takes long to load, and most datasets need none of it.
        from torchvision.transforms import v2

        self.augment = augment
        self.crop = v2.RandomResizedCrop(SIDE)
        self.mean, self.deviation = (
            torch.tensor([255 * value for value in values])[:, None, None]
            for values in (self.means, self.deviations)
        )

    def __call__(self, batch: Tensor) -> Tensor:
        """Return float32 ``[B, C, T 224, 224]`` of uint8 ``[B, T, H, W, C]``, or of one channel.

        Without T, the batch has one picture a clip.
        """
        clips = batch if batch.dim() == 5 else batch[:, None]
        pieces = list(clips.permute(0, 1, 4, 2, 3))
        mirrored = torch.zeros(len(pieces), dtype=torch.bool)
        if self.augment:
            pieces = [cut_out(clip, **self.crop.make_params([clip])) for clip in pieces]
            mirrored = torch.rand(len(pieces)) < 0.5
        pictures = torch.empty(len(pieces), self.channels, clips.shape[1] * SIDE, SIDE)
        # One clip at a time, which stays in the processor's cache until it is done.
        for piece, is_mirrored, picture in zip(pieces, mirrored.tolist(), pictures, strict=True):
            scaled = interpolate(piece, (SIDE, SIDE), mode="bilinear", antialias=True)
            column = (scaled.flip(-1) if is_mirrored else scaled).transpose(0, 1).flatten(1, 2)
            torch.sub(column, self.mean, out=picture).div_(self.deviation)
        return self.after_mirror(pictures, mirrored)

    def after_mirror(self, pictures: Tensor, mirrored: Tensor) -> Tensor:
        """Return the pictures with what else changes in a mirror."""
        return pictures


class Flow(Pictures):
    """From stored optical flow, ``[B, T, H, W, 2]``, to ``[B, 2, T 224, 224]``.

    A byte x stands for the movement (x - 128) / 128, to the right and downward. In a mirror what
    moves to the right moves to the left.
    """

    channels = 2
    means, deviations = (128 / 255,) * 2, (128 / 255,) * 2

    def after_mirror(self, pictures: Tensor, mirrored: Tensor) -> Tensor:
        """Return the flow with its first channel negated where it was mirrored."""
        pictures[mirrored, 0] *= -1
        return pictures
