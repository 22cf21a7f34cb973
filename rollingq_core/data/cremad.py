"""CREMA-D, prepared once and then read from a cache: spectrograms and one picture a clip.

What has to lie where is told in :mod:`rollingq_core.data.cremad_files`.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rollingq_core.data import cremad_files
from rollingq_core.data.audio import CREMAD_SETTINGS, Spectrogram
from rollingq_core.data.cache.shards import Sample
from rollingq_core.data.clip_files import Clip
from rollingq_core.data.clips import Clips
from rollingq_core.data.listing import data_files

SHAPES = {"visual": (*cremad_files.FRAME_SIZE, 3)}


class CremaD(Clips):
    """Acted emotions.

    Inputs are ``audio [N, 1, 257, 188]`` (or 299), standardised by the training split, and
    ``visual [N, 3, 224, 224]``, cut and mirrored at random in training.
    """

    name, title, home = "cremad", "CREMA-D", "CREMA-D"
    needs = (
        "CREMA-D's media can't be fetched automatically. Its folder has to hold "
        f"{cremad_files.SOUNDS}/<clip>.wav and {cremad_files.VIDEOS}/<clip>.flv of "
        f"{cremad_files.ADDRESS}, or {cremad_files.PICTURES}/<clip>/<number>.jpg instead of the "
        "videos. The split that most papers use, train.csv and test.csv of "
        "https://github.com/GeWu-Lab/OGM-GE_CVPR2022, is downloaded where it is not there."
    )
    classes, splits, published_count = cremad_files.EMOTIONS, cremad_files.SPLITS, 6698 + 744
    picture_shapes = SHAPES
    spectrograms, known_bad = CREMAD_SETTINGS, cremad_files.KNOWN_BAD

    def listed(self, folder: Path) -> dict[str, Clip]:
        """Return the clips of ``train.csv`` and ``test.csv``."""
        place_of = cremad_files.read_split(folder)
        parsed = {name: cremad_files.parse_name(name) for name in place_of}
        return {
            name: Clip(self.classes.index(clip.emotion), place_of[name], str(clip.actor))
            for name, clip in parsed.items()
        }

    def places(self, clips: Mapping[str, Clip], split: str) -> dict[str, str]:
        """Return each clip's place, by file or by actor."""
        return cremad_files.places({name: clip.place for name, clip in clips.items()}, split)

    def choose_pictures(self, folder: Path) -> str:
        """Return where pictures come from."""
        return cremad_files.choose_pictures(folder)

    def missing(
        self, names: Collection[str], folder: Path, pictures: str
    ) -> list[tuple[str, Path]]:
        """Return the files, or folders of pictures, that clips lack: sounds first."""
        return cremad_files.missing_files(names, folder, pictures)

    def read(
        self, name: str, folder: Path, pictures: str, spectrogram: Spectrogram | None
    ) -> Sample:
        """Return a clip's wave and its picture."""
        assert spectrogram is not None  # as there are some
        return cremad_files.read_clip(name, folder, spectrogram.sample_rate, pictures)

    def is_published(self, folder: Path) -> bool:
        """Return whether the split files are the published ones: 6698 and 744 clips."""
        return cremad_files.is_published(folder)

    def unlisted(self, folder: Path, names: Collection[str]) -> list[str]:
        """Return sounds that no split file lists."""
        sounds = {path.stem for path in data_files(folder / cremad_files.SOUNDS, ".wav").values()}
        return sorted(sounds - set(names))

    def options(self) -> dict[str, Any]:
        """Return the size of stored pictures."""
        return {"frame_size": list(cremad_files.FRAME_SIZE)}


CREMAD = CremaD()
NEEDS = CREMAD.needs
prepare, load, verify, folder_of = CREMAD.prepare, CREMAD.load, CREMAD.verify, CREMAD.folder_of
