"""What becomes of stored samples as they are read: scaled spectrograms, cropped pictures."""

from dataclasses import dataclass

import torch
from torch import Tensor

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


class Pictures:
    """From stored pictures to what a backbone trained on ImageNet expects.

    Parameters
    ----------
    augment
        True cuts and flips at random, anew each time (torch's global generator draws): a piece of
        8 to 100 % of the area, scaled to the full size, mirrored half the time. False scales the
        whole picture, which changes its proportions if it isn't square.
    """

    def __init__(self, augment: bool) -> None:
        # Here, as torchvision takes long to load, and most datasets need none of it.
        from torchvision.transforms import InterpolationMode, v2

        self.augment = augment
        self.resize = v2.Resize((SIDE, SIDE), InterpolationMode.BILINEAR)
        self.crop = v2.RandomResizedCrop(SIDE)

    def __call__(self, batch: Tensor) -> Tensor:
        """Return float32 ``[B, 3, 224, 224]`` of uint8 ``[B, H, W, 1 or 3]``."""
        pictures = batch.permute(0, 3, 1, 2)
        if self.augment:
            # Asked for each step by itself, the transforms take half the time.
            pictures = torch.stack(
                [
                    self.crop.transform(picture, self.crop.make_params([picture]))
                    for picture in pictures
                ]
            )
            mirrored = torch.rand(len(pictures)) < 0.5
            pictures[mirrored] = pictures[mirrored].flip(-1)
        else:
            pictures = self.resize(pictures)
        # Bytes are brought into their order before they become four times as large.
        pictures = pictures.expand(-1, 3, -1, -1).contiguous().to(torch.float32)
        for colour, mean, deviation in zip(range(3), IMAGENET_MEAN, IMAGENET_STD, strict=True):
            pictures[:, colour].sub_(255 * mean).div_(255 * deviation)
        return pictures
