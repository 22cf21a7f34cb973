"""Spoken and written digits as an ImageNet network sees them: the paper's regime on a CPU.

The pairs are drawn as those of :mod:`rollingq_core.data.avmnist`, from the first images of the file
only. Log-mel pictures and images go through frozen features (:mod:`rollingq_core.data.imagenet`);
the places of the feature map are the tokens. No token is replaced by noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rollingq_core.data import audio, fsdd, imagenet, mnist, store
from rollingq_core.data.avmnist import draw_pairs, recording_splits
from rollingq_core.data.dataset import DataSplits, PairedDataset, hash_splits
from rollingq_core.data.encoded import EncodedDataset

# Of MNIST's test file: a third of it, whose features are soon computed.
IMAGES = 3500
# Standard deviations of a log-mel picture that span the network's range on either side of 0.
SPAN = 2.0


class Scale(NamedTuple):
    """How a modality's standardised input becomes pixels, and its features standard tokens.

    ``pixel_mean`` and ``pixel_deviation`` are those of pixels from -1 to 1; ``mean`` and
    ``deviation`` those of the training split's features.
    """

    pixel_mean: float
    pixel_deviation: float
    mean: float = 0.0
    deviation: float = 1.0


@dataclass(frozen=True)
class Encoder:
    """From standardised inputs to tokens, by modality; holds numbers only."""

    scales: dict[str, Scale]

    def __call__(self, name: str, inputs: Tensor) -> Tensor:
        """Return tokens ``[N, 16, 320]`` of inputs ``[N, 1, H, W]``."""
        scale = self.scales[name]
        seen = imagenet.features(scale.pixel_mean + scale.pixel_deviation * inputs)
        return (stored(seen) - scale.mean) / scale.deviation


def stored(features: Tensor) -> Tensor:
    """Return features as the cache holds them: in half precision."""
    return features.half().float()


def load(
    seed: int = 0,
    train_pairs: int = 900,
    held_out_speaker: str | None = None,
    root: str | Path | None = None,
    validation_pairs: int = 200,
    test_pairs: int = 300,
) -> DataSplits:
    """Pair images with recordings of the same digit, each as frozen features.

    Inputs are ``audio [N, 16, 320]`` and ``visual [N, 16, 320]``, standardised by the training
    split.

    Parameters
    ----------
    seed, train_pairs, validation_pairs, test_pairs, held_out_speaker, root
        As in :func:`rollingq_core.data.avmnist.load`, which also tells what is refused.

    Raises
    ------
    ModuleNotFoundError
        The package of weights is missing; the message names the extra to install.
    """
    images, image_labels = mnist.read_images(root)
    images, image_labels = images[:IMAGES] / np.float32(255), image_labels[:IMAGES]
    clips = fsdd.spoken_recordings(root)
    known = recording_splits(clips["speaker"], clips["index"], "theo") == "train"
    mean, deviation = clips["log_mel"][known].mean(), clips["log_mel"][known].std()
    raw = {
        "audio": torch.from_numpy((clips["log_mel"] - mean) / deviation)[:, None].float(),
        "visual": torch.from_numpy((images - images.mean()) / images.std())[:, None].float(),
    }
    # Images are from 0 to 1 by now.
    pixels = {
        "audio": Scale(0.0, 1 / SPAN),
        "visual": Scale(2 * float(images.mean()) - 1, 2 * float(images.std())),
    }
    seen = _features(raw, pixels, root)
    sizes = (train_pairs, validation_pairs, test_pairs)
    drawn = draw_pairs(image_labels, clips, sizes, seed, held_out_speaker)
    rows = {
        split: {"audio": torch.from_numpy(matched), "visual": torch.from_numpy(chosen)}
        for split, (chosen, matched) in drawn.items()
    }
    scales = {}
    for name, scale in pixels.items():
        train = seen[name][rows["train"][name]].double()
        scales[name] = scale._replace(mean=float(train.mean()), deviation=float(train.std()))
    encode = Encoder(scales)
    splits: list[PairedDataset] = []
    for split, chosen in rows.items():
        tokens = {
            name: (seen[name][at] - scales[name].mean) / scales[name].deviation
            for name, at in chosen.items()
        }
        labels = torch.from_numpy(image_labels[drawn[split][0]])
        if split == "test":
            inputs = {name: raw[name][at] for name, at in chosen.items()}
            splits.append(EncodedDataset(tokens, labels, inputs, encode))
        else:
            splits.append(PairedDataset(tokens, labels))
    training, validation, test = splits
    new = "" if held_out_speaker is None else "-new-speaker"
    return DataSplits(
        name=f"avmnist{new}-pretrained",
        train=training,
        validation=validation,
        test=test,
        classes=tuple("0123456789"),
        patch=None,
        data_hash=hash_splits(training, validation, test),
        # To an ImageNet network a digit is clearer than a spectrogram.
        favoured="visual",
    )


def _features(
    raw: Mapping[str, Tensor], pixels: Mapping[str, Scale], root: str | Path | None
) -> dict[str, Tensor]:
    """Return the features of all recordings and images, from the cache where possible."""
    key = store.fingerprint(
        weights=imagenet.SHA256,
        side=imagenet.SIDE,
        images=mnist.FILES,
        number=IMAGES,
        recordings=fsdd.read_manifest(),
        sound=audio.log_mel_version(),
        pixels={name: list(map(str, scale)) for name, scale in pixels.items()},
    )
    imagenet.weights_file()  # the same answer with and without a cache

    def build() -> dict[str, np.ndarray]:
        encode = Encoder(dict(pixels))
        return {
            name: encode(name, inputs).numpy().astype(np.float16) for name, inputs in raw.items()
        }

    arrays = store.cached_arrays("avmnist-pretrained", key, build, root)
    return {name: torch.from_numpy(values).float() for name, values in arrays.items()}
