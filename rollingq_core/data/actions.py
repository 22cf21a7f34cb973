"""What datasets of filmed actions share: pictures and optical flow of each clip, no sound."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rollingq_core._checks import require_choice
from rollingq_core.data import video
from rollingq_core.data.audio import Spectrogram
from rollingq_core.data.cache.reading import cached_splits
from rollingq_core.data.cache.shards import Sample
from rollingq_core.data.clip_files import Clip
from rollingq_core.data.clips import PATCH, Clips
from rollingq_core.data.dataset import DataSplits
from rollingq_core.data.listing import data_files
from rollingq_core.data.split_lists import read_lists
from rollingq_core.data.transforms import Flow, Pictures

VIDEOS, FLOWS, LISTS = "video", "flow", "splits"
FRAMES, FRAME_SIZE = 3, (240, 320)
SHAPES = {"visual": (FRAMES, *FRAME_SIZE, 3), "flow": (FRAMES, *FRAME_SIZE, 2)}
# Many clips last for a second or two only, so that there is more to choose from.
PER_SECOND = 8
MULTIOOD = "https://github.com/donghao51/MultiOOD"
# The places of MultiOOD's lists, by what its files are called.
LISTED_PLACES = {"train": "train", "val": "validation", "test": "test"}


class Actions(Clips):
    """Filmed actions, laid out as in MultiOOD: ``video/`` and ``flow/<clip>_flow_{x,y}.mp4``.

    Inputs are ``visual [N, 3, 672, 224]`` and ``flow [N, 2, 672, 224]``: the middle pictures of
    three equal parts, one below the other, cut and mirrored at random in training.

    Attributes
    ----------
    near : tuple of str
        The classes that are known where the others are to lie outside.
    code : str
        What MultiOOD's lists are called after.
    """

    modalities = ("visual", "flow")
    picture_shapes = SHAPES
    near: tuple[str, ...]
    code: str

    @abstractmethod
    def parse(self, name: str) -> tuple[int, str]:
        """Return a clip's label and its group.

        Raises
        ------
        ValueError
            The name has another form, or an unknown class.
        """

    @abstractmethod
    def video(self, name: str, folder: Path) -> Path:
        """Return where a clip's video lies."""

    @abstractmethod
    def published(self, folder: Path) -> dict[str, str]:
        """Return the place of each clip by the published split's files, or none without them."""

    @abstractmethod
    def place_of_group(self, group: str) -> str:
        """Return train or test, for clips that no split file places."""

    def listed(self, folder: Path) -> dict[str, Clip]:
        """Return the clips of the published split, or else those in the folder of videos."""
        place_of = self.published(folder)
        if not place_of:
            groups = {name: self.parse(name)[1] for name in self._films(folder)}
            place_of = {name: self.place_of_group(group) for name, group in groups.items()}
        if not place_of:
            raise ValueError(f"root: {folder / VIDEOS} holds no .avi file, expected clips")
        parsed = {name: self.parse(name) for name in place_of}
        return {name: Clip(label, place_of[name], group) for name, (label, group) in parsed.items()}

    def load(
        self,
        split: str = "published",
        root: str | Path | None = None,
        audio: str | None = None,
        known: str | None = None,
    ) -> DataSplits:
        """Return the dataset from its cache; inputs are read from disk as they are asked for.

        Parameters
        ----------
        split : {"published", "group", "multiood"}
            The last is MultiOOD's, whose lists have to lie in the folder ``splits``. They put
            pieces of one film on two sides, so that their test promises too much.
        root
            As in :meth:`prepare`.
        audio
            None, as there is no sound.
        known : {"near"}, optional
            Take some classes only, and leave the others outside of the test split.

        Raises
        ------
        FileNotFoundError
            If it is not prepared, or a list is missing; says what to do.
        ValueError
            If an argument is unknown, or the cache or a list damaged.
        """
        require_choice("split", split, (*self.splits, "multiood"))
        kinds = self.known_classes()
        if known is not None:
            require_choice("known", known, tuple(kinds))
        places = self.listed_places(self.folder_of(root), known) if split == "multiood" else None
        return cached_splits(
            self.prepared(root, audio),
            self.name,
            split,
            self.transforms,
            dict.fromkeys(self.modalities, PATCH),
            places=places,
            known=kinds[known] if known else None,
        )

    def known_classes(self) -> dict[str, tuple[str, ...]]:
        """Return the classes that are known, by the kind of what lies outside."""
        return {"near": self.near}

    def listed_places(self, folder: Path, known: str | None) -> dict[str, str]:
        """Return the place of each clip by MultiOOD's lists, lines of ``path label``."""
        ending = "_near_ood" if known == "near" else ""
        paths = {
            folder / LISTS / f"{self.code}_{part}{ending}.txt": place
            for part, place in LISTED_PLACES.items()
        }
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(
                    f"split: {path} is missing; it is a file of HMDB-rgb-flow/splits in {MULTIOOD}"
                )
        lists = [(path, partial(self._of_multiood, place=place)) for path, place in paths.items()]
        return read_lists(lists, once=False)

    def _of_multiood(self, line: str, place: str) -> tuple[str, str]:
        name = Path(line.rpartition(" ")[0]).stem
        self.parse(name)
        return name, place

    def choose_pictures(self, folder: Path) -> str:
        """Return what decodes the videos."""
        for part in (VIDEOS, FLOWS):
            if not (folder / part).is_dir():
                raise FileNotFoundError(f"root: {folder} has no folder {part}. {self.needs}")
        decoder = video.available_decoder()
        if decoder is None:
            raise FileNotFoundError(f"root: nothing to decode {folder} with; {video.INSTALL}")
        return decoder

    def missing(
        self, names: Collection[str], folder: Path, pictures: str
    ) -> list[tuple[str, Path]]:
        """Return clips without a video, or without one of the two videos of their flow."""
        paths = [(name, path) for name in names for path in self._files(name, folder)]
        return [(name, path) for name, path in paths if not path.is_file()]

    def read(
        self, name: str, folder: Path, pictures: str, spectrogram: Spectrogram | None
    ) -> Sample:
        """Return a clip's three pictures, and three of its flow."""
        film, *flows = self._files(name, folder)
        wanted = pictures, FRAME_SIZE, FRAMES
        colours = video.middles_of_video(film, *wanted, per_second=PER_SECOND)
        moved = [
            video.middles_of_video(path, *wanted, per_second=PER_SECOND, mode="L") for path in flows
        ]
        return {"visual": colours, "flow": np.stack(moved, axis=-1)}

    def transforms(self, scale: Mapping[str, list[float]], training: bool) -> dict[str, Callable]:
        """Return what becomes of each modality's rows as they are read."""
        return {"visual": Pictures(augment=training), "flow": Flow(augment=training)}

    def is_published(self, folder: Path) -> bool:
        """Return whether as many clips are listed as were published."""
        return len(self.listed(folder)) == self.published_count

    def unlisted(self, folder: Path, names: Collection[str]) -> list[str]:
        """Return videos that no split file lists."""
        return sorted(set(self._films(folder)) - set(names))

    def options(self) -> dict[str, Any]:
        """Return the number and the size of stored pictures."""
        return {"frames": FRAMES, "per_second": PER_SECOND, "frame_size": list(FRAME_SIZE)}

    def _films(self, folder: Path) -> Sequence[str]:
        """Return the clips in the folder of videos, itself or one further down, by name."""
        base = folder / VIDEOS
        folders = [base, *sorted(path for path in base.iterdir() if path.is_dir())]
        return [path.stem for part in folders for path in data_files(part, ".avi").values()]

    def _files(self, name: str, folder: Path) -> list[Path]:
        flows = [folder / FLOWS / f"{name}_flow_{axis}.mp4" for axis in "xy"]
        return [self.video(name, folder), *flows]
