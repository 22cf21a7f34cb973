"""Spoken and handwritten digits at the paper's input sizes, through the same cache as CREMA-D.

The pairs are those of :mod:`rollingq_core.data.avmnist`; what differs is how large they are.
"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from rollingq_core.data import fsdd, mnist, store
from rollingq_core.data.audio import CREMAD_CODE, load_wave
from rollingq_core.data.avmnist import draw_pairs
from rollingq_core.data.cache import building as cache_build
from rollingq_core.data.cache.reading import cached_splits
from rollingq_core.data.dataset import DataSplits
from rollingq_core.data.listing import data_file
from rollingq_core.data.transforms import Pictures, Standardise

PATCH = {"audio": (16, 16), "visual": (16, 16)}
# Half a second of speech fills three only when it may be repeated more than three times.
SETTINGS = replace(CREMAD_CODE, copies=None)


def load(
    seed: int = 0,
    train_pairs: int = 900,
    held_out_speaker: str | None = None,
    root: str | Path | None = None,
    validation_pairs: int = 300,
    test_pairs: int = 900,
    jobs: int = 1,
    progress: bool = False,
) -> DataSplits:
    """Return the pairs of ``avmnist`` from a cache, which the first call builds.

    Inputs are ``audio [N, 1, 257, 188]`` (log-STFT of the recording, repeated to three seconds),
    standardised by the training split, and ``visual [N, 3, 224, 224]``. No token is replaced by
    noise, and no picture is cut or mirrored: a mirrored digit is none.

    Parameters
    ----------
    seed, train_pairs, validation_pairs, test_pairs, held_out_speaker, root
        As in :func:`rollingq_core.data.avmnist.load`, which also tells what is refused.
    jobs : int
        Processes that build the cache.
    progress : bool
        Whether to show a progress bar while it is built.

    Raises
    ------
    OSError
        If the disk is full.
    """
    hashes = fsdd.read_manifest()
    recordings = [*hashes]
    images, labels = mnist.read_images(root)
    sizes = (train_pairs, validation_pairs, test_pairs)
    drawn = draw_pairs(labels, fsdd.read_names(recordings), sizes, seed, held_out_speaker)
    pairs = {
        f"{split}-{number:05d}": (int(image), recordings[recording])
        for split, (chosen, matched) in drawn.items()
        for number, (image, recording) in enumerate(zip(chosen, matched, strict=True))
    }
    contents = cache_build.Contents(
        labels={name: int(labels[image]) for name, (image, _) in pairs.items()},
        classes=tuple("0123456789"),
        splits={"pairs": {name: name.partition("-")[0] for name in pairs}},
        options={
            "settings": asdict(SETTINGS),
            "made_by": SETTINGS.version(),
            "sources": store.fingerprint(pairs=pairs, recordings=hashes, images=mnist.FILES),
        },
    )
    folder = Path("cache", f"avmnist-full-{contents.key}")
    existing = [base / folder for base in store.search_roots(root) if (base / folder).is_dir()]
    target = existing[0] if existing else store.writable_root(root) / folder
    if not existing:
        sounds = fsdd.recordings_folder(root)
        make = partial(_sample, pairs=pairs, images=images, folder=sounds, hashes=hashes)
        cache_build.build(target, contents, make, jobs, progress)
    return cached_splits(target, "avmnist_full", "pairs", _transforms, PATCH)


def _sample(
    name: str,
    pairs: dict[str, tuple[int, str]],
    images: np.ndarray,
    folder: Path,
    hashes: dict[str, str],
) -> dict[str, np.ndarray]:
    image, recording = pairs[name]
    path = data_file(folder, recording)
    store.verify_file(path, hashes[recording])
    wave = load_wave(path, SETTINGS.sample_rate)
    # The picture is small as it is, and scaled when it is read.
    return {"audio": SETTINGS(wave)[None].astype(np.float16), "visual": images[image][..., None]}


def _transforms(scale: dict[str, list[float]], training: bool) -> dict:
    return {"audio": Standardise(*scale["audio"]), "visual": Pictures(augment=False)}
