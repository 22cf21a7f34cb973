"""What each dataset of clips tells of itself: what lies where, and how a clip is read."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rollingq_core.data import store
from rollingq_core.data.audio import Spectrogram
from rollingq_core.data.cache.shards import Sample
from rollingq_core.data.transforms import Pictures, Standardise


class Clip(NamedTuple):
    """What a clip's name and the split files say of it.

    ``place`` is ``"train"`` or ``"test"``, or ``"none"`` where it takes no part; ``group`` is what
    must not be on two sides: a speaker, a film, a video.
    """

    label: int
    place: str
    group: str


class ClipFiles(ABC):
    """A dataset of clips: what lies where, and how one of them is read.

    Attributes
    ----------
    name, title : str
        Its name in ``SOURCES``, and in messages.
    home : str
        Its folder in the data root.
    needs : str
        What its folder has to hold, and where that comes from.
    classes : tuple of str
        In label order.
    published_count : int
        How many clips were published.
    modalities : tuple of str
        What a stored clip has.
    picture_shapes : dict of str to tuple of int
        The shape of what is stored of a clip as bytes, by modality: T pictures ``[T, H, W, C]``, or
        one without T.
    splits : tuple of str
        Ways to split it.
    spectrograms : dict of str to Spectrogram
        Those that can be prepared, by name, the default first; none for clips without sound.
    known_bad : dict of str to str
        Clips to leave out where they can't be read, and what is known of them.
    may_be_missing : bool
        Whether a listed clip whose file is not there is left out; else that is an error.
    """

    name: str
    title: str
    home: str
    needs: str
    classes: tuple[str, ...]
    published_count: int
    modalities: tuple[str, ...] = ("audio", "visual")
    picture_shapes: Mapping[str, tuple[int, ...]]
    splits: tuple[str, ...] = ("published", "group")
    spectrograms: Mapping[str, Spectrogram] = {}
    known_bad: Mapping[str, str] = {}
    may_be_missing = False

    @abstractmethod
    def listed(self, folder: Path) -> dict[str, Clip]:
        """Return the clips that the split files list, by name, in their order.

        Raises
        ------
        ConnectionError
            A split file is neither there nor to be downloaded.
        ValueError
            A line that can't be right; the message has its file and number.
        """

    @abstractmethod
    def choose_pictures(self, folder: Path) -> str:
        """Return where pictures come from: ``"pyav"``, ``"ffmpeg"`` or ``"jpg"``.

        Raises
        ------
        FileNotFoundError
            There is nothing that could be read; says what to do.
        """

    @abstractmethod
    def missing(
        self, names: Collection[str], folder: Path, pictures: str
    ) -> list[tuple[str, Path]]:
        """Return clips that lack a file, and which; a clip may come twice.

        Raises
        ------
        FileNotFoundError
            A whole folder is missing; says where it comes from.
        """

    @abstractmethod
    def read(
        self, name: str, folder: Path, pictures: str, spectrogram: Spectrogram | None
    ) -> Sample:
        """Return what is decoded of a clip.

        Raises
        ------
        FileNotFoundError or ValueError
            A file is missing, or can't be read.
        """

    def stored(self, clip: Sample, spectrogram: Spectrogram | None) -> Sample:
        """Return what is stored of a decoded clip: of a wave, its spectrogram."""
        if spectrogram is None:
            return clip
        # Half precision errs by .008 at most near the floor of -16, and the values vary by about 3.
        sound = spectrogram(clip["wave"])[None].astype(np.float16)
        return {"audio": sound, "visual": clip["visual"]}

    def transforms(self, scale: Mapping[str, list[float]], training: bool) -> dict[str, Callable]:
        """Return what becomes of each modality's rows as they are read from the cache."""
        return {"audio": Standardise(*scale["audio"]), "visual": Pictures(augment=training)}

    def places(self, clips: Mapping[str, Clip], split: str) -> dict[str, str]:
        """Return each clip's place in a way to split: train, validation or test."""
        return group_places(clips, split)

    def is_published(self, folder: Path) -> bool:
        """Return whether the split files are the published ones."""
        return True

    def unlisted(self, folder: Path, names: Collection[str]) -> list[str]:
        """Return clips in the folder that are none of ``names``."""
        return []

    def options(self) -> dict[str, Any]:
        """Return what else stored samples depend on."""
        return {}

    def folder_of(self, root: str | Path | None = None) -> Path:
        """Return ``root``, or else the dataset's folder in the data root."""
        return Path(root).expanduser() if root else store.data_root() / self.home


def group_places(clips: Mapping[str, Clip], split: str) -> dict[str, str]:
    """Return the place of each clip: train, validation or test, or none.

    Parameters
    ----------
    clips : mapping of str to Clip
        By name.
    split : {"published", "group"}
        ``published`` keeps the test clips of the split files, and validates on the training clips
        of each tenth group; a clip that the files put nowhere takes no part. ``group`` tests on a
        tenth of all groups, whatever the files say, so that no group is on two sides. A group's
        name decides, by its hash.
    """
    by_group = {0: "validation", 1: "test"} if split == "group" else {0: "validation"}
    fixed = () if split == "group" else ("test", "none")
    return {
        name: clip.place if clip.place in fixed else by_group.get(tenth(clip.group), "train")
        for name, clip in clips.items()
    }


def tenth(group: str) -> int:
    """Return a number from 0 to 9 that the hash of a group's name decides."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % 10
