"""Spoken digits and handwritten digits: recordings of six speakers paired with MNIST images.

Only MNIST's test file of 10,000 images is used, and cut here into training, validation and test
images. In every run of 500 images, the first 300 train, 50 validate and 150 test: each split sees
the easier first and the harder second half of the file, and as writers follow each other, few of
them are on two sides.

The recordings keep their official split: index 0 to 4 tests. Of the rest, 5 to 9 validate.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from rollingq_core._checks import require_integer
from rollingq_core.data import fsdd, mnist
from rollingq_core.data.dataset import DataSplits, PairedDataset
from rollingq_core.data.outside import DIGITS, prepared_with_outside
from rollingq_core.data.pairing import balanced_choice, match_labels

BRIGHTEST = 255.0
PATCH = {"audio": (32, 7), "visual": (4, 28)}
SPLITS = ("train", "validation", "test")


def load(
    seed: int = 0,
    train_pairs: int = 900,
    token_noise: float = 0.2,
    held_out_speaker: str | None = None,
    root: str | Path | None = None,
    validation_pairs: int = 300,
    test_pairs: int = 900,
    known_digits: int = DIGITS,
) -> DataSplits:
    """Pair images with recordings of the same digit, each from its own split.

    Inputs are ``audio [N, 1, 32, 49]`` (log-mel) and ``visual [N, 1, 28, 28]``, standardised by
    the training split, then with some tokens replaced by noise. Every image is used once;
    recordings are used again where images outnumber them (300 test recordings, 900 test pairs).

    Parameters
    ----------
    seed : int
        Fixes pairs and noise.
    train_pairs, validation_pairs, test_pairs : int
        Pairs in each split, the ten digits equally frequent.
    token_noise : float
        Chance that a token of either modality is replaced by N(0, 1), in every split.
    held_out_speaker : str, optional
        Test on all recordings of this speaker, and keep them out of the other splits.
    root : str or Path, optional
        Data root (see :func:`rollingq_core.data.store.data_root`).
    known_digits : int
        How many digits are classes, from 0 on; those of the test split that are none, and what is
        no digit at all, lie outside (see :mod:`rollingq_core.data.outside`).

    Raises
    ------
    ConnectionError
        If the files are neither in the data root nor to be downloaded.
    ValueError
        If an argument is out of range, or a file is damaged.
    """
    images, image_labels = mnist.read_images(root)
    clips = fsdd.spoken_recordings(root)
    sizes = (train_pairs, validation_pairs, test_pairs)
    splits = []
    for chosen, matched in draw_pairs(image_labels, clips, sizes, seed, held_out_speaker).values():
        inputs = {
            "audio": torch.from_numpy(clips["log_mel"][matched])[:, None],
            "visual": torch.from_numpy(images[chosen])[:, None],
        }
        splits.append(PairedDataset(inputs, torch.from_numpy(image_labels[chosen])))
    return prepared_with_outside(
        "avmnist", splits, PATCH, token_noise, seed, known_digits, BRIGHTEST
    )


def draw_pairs(
    image_labels: np.ndarray,
    clips: Mapping[str, np.ndarray],
    sizes: Sequence[int],
    seed: int,
    held_out_speaker: str | None = None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draw pairs of an image and a recording of the same digit, from the same split.

    Parameters
    ----------
    image_labels : np.ndarray
        Digit of each image, in the file's order.
    clips : mapping of str to np.ndarray
        ``digit``, ``speaker`` and ``index`` of each recording.
    sizes : sequence of int
        Pairs in the training, validation and test split.
    seed, held_out_speaker
        As in :func:`load`.

    Returns
    -------
    dict of str to (np.ndarray, np.ndarray)
        By split: which image and which recording each pair has.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    if held_out_speaker is not None and held_out_speaker not in fsdd.SPEAKERS:
        raise ValueError(
            f"held_out_speaker: got {held_out_speaker!r}, expected one of {fsdd.SPEAKERS}"
        )
    require_integer("seed", seed, at_least=0)
    for split, size in zip(SPLITS, sizes, strict=True):
        require_integer(f"{split}_pairs", size, at_least=1)
    recording_split_of = recording_splits(clips["speaker"], clips["index"], held_out_speaker)
    image_split_of = image_splits(len(image_labels))
    pairs = {}
    for position, (split, size) in enumerate(zip(SPLITS, sizes, strict=True)):
        generator = np.random.default_rng([seed, position])
        candidates = np.flatnonzero(image_split_of == split)
        chosen = candidates[balanced_choice(image_labels[candidates], size, generator)]
        recordings = np.flatnonzero(recording_split_of == split)
        matched = match_labels(image_labels[chosen], clips["digit"][recordings], generator)
        pairs[split] = (chosen, recordings[matched])
    return pairs


def image_splits(count: int) -> np.ndarray:
    """Return the split of each of ``count`` images in the file's order."""
    place = np.arange(count) % 500
    return np.select([place < 300, place < 350], SPLITS[:2], SPLITS[2])


def recording_splits(
    speakers: np.ndarray, indices: np.ndarray, held_out_speaker: str | None = None
) -> np.ndarray:
    """Return the split of each recording, or ``"none"`` where it is left out.

    Parameters
    ----------
    speakers, indices : np.ndarray
        Speaker and index of each recording.
    held_out_speaker : str, optional
        This speaker's recordings are the test split. The others' official test recordings are
        then left out, so that training is the same size a speaker with and without.
    """
    split = np.select([indices < 5, indices < 10], ["test", "validation"], "train")
    if held_out_speaker is None:
        return split
    remaining = np.where(split == "test", "none", split)
    return np.where(speakers == held_out_speaker, "test", remaining)
