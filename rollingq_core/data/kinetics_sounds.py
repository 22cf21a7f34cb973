"""Kinetics-Sounds: 31 classes of Kinetics-400 that can be heard and seen, ten seconds a clip.

Arandjelovic and Zisserman 2017; Kay et al. 2017. The clips lie on YouTube and are no longer all
there: one that is missing is left out, and counted.
"""

import csv
import re
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from rollingq_core.data import audio, store, video
from rollingq_core.data.audio import KINETICS_SOUNDS_PAPER, Spectrogram
from rollingq_core.data.cache.shards import Sample
from rollingq_core.data.clip_files import Clip
from rollingq_core.data.clips import Clips
from rollingq_core.data.fbank import FRAME, KINETICS_SOUNDS_CODE
from rollingq_core.data.listing import data_file
from rollingq_core.data.split_lists import read_lists

INSTRUMENTS = (
    *("accordion", "bagpipes", "bass guitar", "clarinet", "drums", "guitar", "harmonica"),
    *("keyboard", "organ", "piano", "saxophone", "trombone", "trumpet", "violin", "xylophone"),
)
# In alphabetical order, which is that of the published labels.
CLASSES = (
    *("blowing nose", "blowing out candles", "bowling", "chopping wood", "dribbling basketball"),
    *("laughing", "mowing lawn"),
    *(f"playing {instrument}" for instrument in INSTRUMENTS),
    *("ripping paper", "shoveling snow", "shuffling cards", "singing", "stomping grapes"),
    *("tap dancing", "tapping guitar", "tapping pen", "tickling"),
)
SPLIT_ADDRESS = (
    "https://raw.githubusercontent.com/GeWu-Lab/OGM-GE_CVPR2022/"
    "343dc1d95c9bda88f105c0da8d24f185e0e98b54/data/KineticSound/"
)
SPLIT_FILES = {
    "my_train.txt": "e75bb596c30bf839adb3c2dc73b4a4617add66b36c2f416f96ac2e56a251751f",
    "my_test.txt": "3bb1fee2c9d30919cec6887a3e2fa27b7936cc3f46dff447d85ea21892a80a58",
}
# Kinetics-400's own lists, which name more clips; where they are, they count.
ANNOTATIONS = {"train.csv": "train", "validate.csv": "test"}
VIDEOS, PICTURES, SOUNDS = "videos", "Image-01-FPS", "audio"
SPECTROGRAMS = {"code": KINETICS_SOUNDS_CODE, "paper": KINETICS_SOUNDS_PAPER}
# Where a video may lie in the folder of videos: downloads of Kinetics-400 sort them in two ways.
PARTS = ("", "train", "val", "validate", "test")
SECONDS = 10
FRAMES, FRAME_SIZE = 3, (240, 320)
SHAPES = {"visual": (FRAMES, *FRAME_SIZE, 3)}
NAMED = re.compile(r"(.{11})_(\d+)(?:_(\d+))?")


class KineticsSounds(Clips):
    """Everyday sounds and the pictures that go with them.

    Inputs are ``audio [N, 1, 128, 1024]`` (Kaldi's filter banks, as in the published code) or
    ``[N, 1, 257, 1004]`` (the paper's), standardised by the training split, and ``visual
    [N, 3, 672, 224]``: the middle pictures of three equal parts, one below the other, cut and
    mirrored at random in training. Where the published code draws a picture of each part anew in
    every epoch, training here sees the middle ones, too.
    """

    name, title, home = "kinetics_sounds", "Kinetics-Sounds", "Kinetics-Sounds"
    needs = (
        "Kinetics-Sounds has to be collected by hand, from Kinetics-400 "
        "(https://github.com/cvdfoundation/kinetics-dataset): its folder holds "
        f"{VIDEOS}/<clip>.mp4, a clip named <YouTube id>_<start>_<end> in seconds of six digits, "
        f"or {PICTURES}/<clip>/<number>.jpg with {SOUNDS}/<clip>.wav. Clips that are missing are "
        "left out. The lists of clips, my_train.txt and my_test.txt of "
        "https://github.com/GeWu-Lab/OGM-GE_CVPR2022, are downloaded where they are not there; "
        "train.csv and validate.csv of Kinetics-400 count instead where they are."
    )
    classes, published_count = CLASSES, 14799 + 2597
    picture_shapes = SHAPES
    spectrograms = SPECTROGRAMS
    may_be_missing = True

    def listed(self, folder: Path) -> dict[str, Clip]:
        """Return the clips of Kinetics-400's csv files, or else of the published lists."""
        clips = read_lists(
            (path, partial(_placed, read=read, place=place))
            for path, place, read in self._lists(folder)
        )
        if not clips:
            raise ValueError(f"root: {folder} has split files that list no clip of {self.title}")
        return clips

    def is_published(self, folder: Path) -> bool:
        """Return whether the lists are the published ones: 14799 and 2597 clips."""
        return all(
            path.name in SPLIT_FILES and store.sha256_file(path) == SPLIT_FILES[path.name]
            for path, *_ in self._lists(folder)
        )

    def choose_pictures(self, folder: Path) -> str:
        """Return where pictures come from."""
        otherwise = f"root: {folder} has no folder {VIDEOS}. {self.needs}"
        return video.choose_source(folder / VIDEOS, folder / PICTURES, otherwise)

    def missing(
        self, names: Collection[str], folder: Path, pictures: str
    ) -> list[tuple[str, Path]]:
        """Return clips without a video, or without a sound or their folder of pictures."""
        paths = [(name, path) for name in names for path in _files(name, folder, pictures)]
        return [(name, path) for name, path in paths if not path.exists()]

    def read(
        self, name: str, folder: Path, pictures: str, spectrogram: Spectrogram | None
    ) -> Sample:
        """Return a clip's wave, and its three pictures."""
        assert spectrogram is not None  # as there are some
        rate, (path, *sound) = spectrogram.sample_rate, _files(name, folder, pictures)
        if pictures == "jpg":
            heard, frames = sound[0], video.middles_of_folder(path, FRAME_SIZE, FRAMES)
            wave = audio.load_wave(heard, rate)
        else:
            heard, frames = path, video.middles_of_video(path, pictures, FRAME_SIZE, FRAMES)
            wave = video.sound_of_video(heard, pictures, rate)
        if len(wave) < FRAME:
            raise ValueError(
                f"path: {heard} holds {len(wave)} samples of sound, expected at least {FRAME}"
            )
        return {"wave": wave, "visual": frames}

    def options(self) -> dict[str, Any]:
        """Return the number and the size of stored pictures."""
        return {"frames": FRAMES, "frame_size": list(FRAME_SIZE)}

    def _lists(self, folder: Path) -> list[tuple[Path, str, Callable]]:
        own = {file: data_file(folder, file) for file in ANNOTATIONS}
        if all(path.is_file() for path in own.values()):
            return [(path, ANNOTATIONS[file], _annotated) for file, path in own.items()]
        places = ("train", "test")
        return [
            (_published_list(file, folder), place, _numbered)
            for file, place in zip(SPLIT_FILES, places, strict=True)
        ]


def _placed(line: str, read: Callable, place: str) -> tuple[str, Clip] | None:
    """Return the clip of a line, and what it says of it, or None for a line without one."""
    listed = read(next(csv.reader([line]), []))
    if listed is None:
        return None
    name, label = listed
    return name, Clip(label, place, name[:11])


def _numbered(row: list[str]) -> tuple[str, int]:
    """Return a clip and its label of a line ``name,seconds,label``."""
    if len(row) != 3 or not row[2].isdigit():
        raise ValueError(f"got {','.join(row)!r}, expected name,seconds,label")
    if int(row[2]) >= len(CLASSES):
        raise ValueError(f"got label {row[2]}, expected one of 0 to {len(CLASSES) - 1}")
    return clip_name(row[0]), int(row[2])


def _annotated(row: list[str]) -> tuple[str, int] | None:
    """Return a clip and its label of a line ``label,youtube_id,time_start,time_end,…``."""
    if row[:2] == ["label", "youtube_id"]:
        return None
    if len(row) < 4:
        raise ValueError(f"got {','.join(row)!r}, expected label,youtube_id,time_start,time_end")
    if row[0] not in CLASSES:
        return None  # another of the 400
    return clip_name(f"{row[1]}_{row[2]}_{row[3]}"), CLASSES.index(row[0])


def clip_name(text: str) -> str:
    """Return a clip's name with start and end, in seconds, of six digits each.

    Examples
    --------
    >>> clip_name("-3Mwkq-7TV4_2"), clip_name("--4-0ihtnBU_000058_000068")
    ('-3Mwkq-7TV4_000002_000012', '--4-0ihtnBU_000058_000068')

    Raises
    ------
    ValueError
        It is no YouTube id of eleven characters with a start.
    """
    found = NAMED.fullmatch(text)
    if not found or not re.fullmatch(r"[\w-]{11}", found[1], re.ASCII):
        raise ValueError(f"got {text!r}, expected a YouTube id, start and end, joined by _")
    start = int(found[2])
    end = int(found[3]) if found[3] else start + SECONDS
    return f"{found[1]}_{start:06d}_{end:06d}"


def _files(name: str, folder: Path, pictures: str) -> list[Path]:
    """Return where a clip's video lies, or its pictures and its sound."""
    if pictures == "jpg":
        return [folder / PICTURES / name, data_file(folder / SOUNDS, f"{name}.wav")]
    places = [folder / VIDEOS / part / f"{name}.mp4" for part in PARTS]
    return [next((path for path in places if path.is_file()), places[0])]


def _published_list(file: str, folder: Path) -> Path:
    local = [folder, store.data_root() / "published-splits" / "KineticSound"]
    for base in [*local, store.writable_root(folder)]:
        path = data_file(base, file)
        if path.is_file():
            return path
    target = store.writable_root(folder) / file
    return store.fetch(SPLIT_ADDRESS + file, target, SPLIT_FILES[file], "Kinetics-Sounds' lists")


KINETICS_SOUNDS = KineticsSounds()
NEEDS = KINETICS_SOUNDS.needs
prepare, load = KINETICS_SOUNDS.prepare, KINETICS_SOUNDS.load
verify, folder_of = KINETICS_SOUNDS.verify, KINETICS_SOUNDS.folder_of
