"""Small digits that ship with the package: scikit-learn's images, synthesised speech.

The images are the 1797 of 8 x 8 pixels in scikit-learn. They are cut in their stored order, 900
for training, 300 for validation, 597 for testing: neighbours come from the same writers, so most
writers stay on one side. The clips lie in ``spoken_digits`` (see its README); a speaker belongs
to one split only.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from rollingq_core._checks import require_integer
from rollingq_core.data import audio, store
from rollingq_core.data.dataset import DataSplits, PairedDataset
from rollingq_core.data.outside import DIGITS, prepared_with_outside
from rollingq_core.data.pairing import match_labels

FOLDER = Path(__file__).parent / "spoken_digits"
BRIGHTEST = 16.0
PATCH = {"audio": (32, 7), "visual": (1, 8)}
IMAGE_RANGES = {"train": (0, 900), "validation": (900, 1200), "test": (1200, 1797)}


def load(
    seed: int = 0,
    train_pairs: int = 900,
    token_noise: float = 0.2,
    root: str | Path | None = None,
    known_digits: int = DIGITS,
) -> DataSplits:
    """Pair each image with a clip of the same digit from a speaker of the same split.

    Inputs are ``audio [N, 1, 32, 49]`` (log-mel) and ``visual [N, 1, 8, 8]``, standardised by the
    training split, then with some tokens replaced by noise. 300 validation and 597 test pairs.

    Parameters
    ----------
    seed : int
        Fixes pairs and noise.
    train_pairs : int
        Training pairs, 1 to 900.
    token_noise : float
        Chance that a token of either modality is replaced by N(0, 1), in every split.
    root : str or Path, optional
        Data root that the cache lies under (see :func:`rollingq_core.data.store.data_root`).
    known_digits : int
        How many digits are classes, from 0 on; those of the test split that are none, and what is
        no digit at all, lie outside (see :mod:`rollingq_core.data.outside`).

    Raises
    ------
    ValueError
        If an argument is out of range, or a shipped sound file is damaged.
    """
    first, last = IMAGE_RANGES["train"]
    require_integer("seed", seed, at_least=0)
    require_integer("train_pairs", train_pairs, at_least=1, at_most=last - first)
    clips, images = spoken_clips(root), _images()
    splits = []
    for position, (split, (first, last)) in enumerate(IMAGE_RANGES.items()):
        generator = np.random.default_rng([seed, position])
        order = generator.permutation(np.arange(first, last))
        order = order[:train_pairs] if split == "train" else order
        labels = images["digit"][order]
        candidates = np.flatnonzero(clips["split"] == split)
        matched = candidates[match_labels(labels, clips["digit"][candidates], generator)]
        inputs = {
            "audio": torch.from_numpy(clips["log_mel"][matched])[:, None],
            "visual": torch.from_numpy(images["image"][order])[:, None],
        }
        splits.append(PairedDataset(inputs, torch.from_numpy(labels)))
    return prepared_with_outside(
        "digits", splits, PATCH, token_noise, seed, known_digits, BRIGHTEST
    )


def spoken_clips(root: str | Path | None = None) -> dict[str, np.ndarray]:
    """Return the shipped clips as log-mel pictures, from the cache where possible.

    Returns
    -------
    dict of str to np.ndarray
        ``log_mel`` float32 ``[n, 32, 49]``, ``digit`` int64 ``[n]``, ``speaker`` and ``split``
        ``[n]`` as text.

    Raises
    ------
    ValueError
        If a file has another SHA-256 than ``sha256.json`` records, or can't be read.
    """
    hashes = json.loads((FOLDER / "sha256.json").read_text(encoding="utf-8"))
    for name, sha256 in hashes.items():
        store.verify_file(FOLDER / name, sha256, text=name.endswith(".csv"))
    key = store.fingerprint(sources=hashes, features=audio.log_mel_version())
    return store.cached_arrays("spoken-digits", key, lambda: _extract(hashes), root)


def _extract(hashes: Mapping[str, str]) -> dict[str, np.ndarray]:
    waves = {
        Path(name).stem: audio.load_wave(FOLDER / name, audio.MEL_RATE)
        for name in hashes
        if name.endswith(".ogg")
    }
    with (FOLDER / "index.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))

    def picture(line: dict[str, str]) -> np.ndarray:
        start, length = int(line["start"]), int(line["length"])
        return audio.log_mel(waves[line["speaker"]][start : start + length])

    return {
        "log_mel": np.stack([picture(line) for line in lines]),
        "digit": np.array([int(line["digit"]) for line in lines]),
        "speaker": np.array([line["speaker"] for line in lines]),
        "split": np.array([line["split"] for line in lines]),
    }


def _images() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return {"image": digits.images.astype(np.float32), "digit": digits.target.astype(np.int64)}
