"""CREMA-D as it lies on disk: 7442 clips of 91 actors, 12 sentences, six emotions.

Cao et al., 2014, DOI 10.1109/TAFFC.2014.2336244. The media can't be fetched automatically: they
lie in Git LFS. What is expected in the folder, and where it comes from:

- ``AudioWAV/<clip>.wav`` and ``VideoFlash/<clip>.flv``:
  https://github.com/CheyneyComputerScience/CREMA-D. Instead of the videos, pictures at one a second
  may lie in ``Image-01-FPS/<clip>/<number>.jpg``.
- ``train.csv`` and ``test.csv``, lines of ``clip,EMOTION`` without a header: the split that most
  papers use, from the folder ``data/CREMAD`` of https://github.com/GeWu-Lab/OGM-GE_CVPR2022.
  Where they are missing, they are taken from ``published-splits/CREMAD`` in the data root, or
  downloaded.
"""

import codecs
import hashlib
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rollingq_core.data import audio, store, video
from rollingq_core.data.listing import data_file, data_files
from rollingq_core.data.split_lists import read_lists

ADDRESS = "https://github.com/CheyneyComputerScience/CREMA-D"
SPLIT_ADDRESS = (
    "https://raw.githubusercontent.com/GeWu-Lab/OGM-GE_CVPR2022/"
    "343dc1d95c9bda88f105c0da8d24f185e0e98b54/data/CREMAD/"
)
# As published, with CRLF at the end of each line.
SPLIT_FILES = {
    "train.csv": "68d0d3fd253830328fc92c68f3cf2e215db8c5b86757ad9c5112d2c76ba68bde",
    "test.csv": "14866c99301fd56fb4a16f8a7048a8a6372a47069aee9f216443bc718be45f1f",
}
SPLITS = ("published", "speaker")
# In the order of the labels, as in the published code.
EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
LEVELS = ("LO", "MD", "HI", "XX")
ACTORS = range(1001, 1092)
VALIDATION_ACTORS, TEST_ACTORS = ACTORS[::10], ACTORS[5::10]
# What the dataset's own notes say of them. Left out where they can't be read.
KNOWN_BAD = {
    "1076_MTI_SAD_XX": "no audio",
    "1076_MTI_NEU_XX": "no duration",
    "1064_TIE_SAD_XX": "no duration",
    "1064_IEO_DIS_MD": "a minute long",
}
SOUNDS, VIDEOS, PICTURES = "AudioWAV", "VideoFlash", "Image-01-FPS"
# In the videos' own proportions, 4:3, and no side below the 224 that are cut out.
FRAME_SIZE = (240, 320)
POINTER = b"version https://git-lfs"


class Clip(NamedTuple):
    """What a clip's name says: ``ACTOR_SENTENCE_EMOTION_LEVEL``."""

    actor: int
    sentence: str
    emotion: str
    level: str


def parse_name(name: str) -> Clip:
    """Return what a clip's name says.

    Raises
    ------
    ValueError
        If a part of it is unknown.
    """
    fields = name.split("_")
    known = [[str(actor) for actor in ACTORS], SENTENCES, EMOTIONS, LEVELS]
    if len(fields) != 4 or any(field not in of for field, of in zip(fields, known, strict=True)):
        raise ValueError(
            f"name: got {name!r}, expected ACTOR_SENTENCE_EMOTION_LEVEL, such as 1001_IEO_ANG_HI"
        )
    return Clip(int(fields[0]), *fields[1:])


def folder_of(root: str | Path | None = None) -> Path:
    """Return ``root``, or else the folder ``CREMA-D`` of the data root."""
    return Path(root).expanduser() if root else store.data_root() / "CREMA-D"


def read_split(root: str | Path | None = None) -> dict[str, str]:
    """Return ``"train"`` or ``"test"`` by clip, as ``train.csv`` and ``test.csv`` say.

    Raises
    ------
    ConnectionError
        If a file is neither in the folder nor to be downloaded.
    ValueError
        If a line is no ``clip,EMOTION``, contradicts itself, or names a clip again.
    """
    folder = folder_of(root)
    place_of = read_lists(
        (_locate_split(file, folder), partial(_placed, place=Path(file).stem))
        for file in SPLIT_FILES
    )
    if not place_of:
        raise ValueError(f"root: {folder} has split files that list no clip")
    return place_of


def _placed(line: str, place: str) -> tuple[str, str]:
    """Return the clip of a line ``clip,EMOTION``, and its place."""
    name, _, emotion = line.partition(",")
    expected = parse_name(name).emotion
    if emotion != expected:
        raise ValueError(f"got emotion {emotion!r} for {name}, expected {expected!r}")
    return name, place


def is_published(root: str | Path | None = None) -> bool:
    """Return whether the split files are the published ones, whatever ends their lines.

    Nor does a byte order mark count, which some editors put first.
    """
    folder = folder_of(root)
    for file, sha256 in SPLIT_FILES.items():
        content = _locate_split(file, folder).read_bytes()
        lines = content.removeprefix(codecs.BOM_UTF8).splitlines()
        content = b"".join(line + b"\r\n" for line in lines)
        if hashlib.sha256(content).hexdigest() != sha256:
            return False
    return True


def places(place_of: dict[str, str], split: str) -> dict[str, str]:
    """Return the place of each clip, ``"train"``, ``"validation"`` or ``"test"``.

    Parameters
    ----------
    place_of : dict of str to str
        What :func:`read_split` returns.
    split : {"published", "speaker"}
        ``published`` keeps the test clips of the files, and validates on the training clips of
        every tenth actor; its actors are in training and test alike. ``speaker`` goes by actor
        alone: each is in one place only.
    """
    actors = {name: parse_name(name).actor for name in place_of}
    if split == "speaker":
        place_of = {
            name: "test" if actor in TEST_ACTORS else "train" for name, actor in actors.items()
        }
    return {
        name: "validation" if place == "train" and actors[name] in VALIDATION_ACTORS else place
        for name, place in place_of.items()
    }


def choose_pictures(root: str | Path | None = None) -> str:
    """Return where pictures come from: ``"pyav"``, ``"ffmpeg"`` or ``"jpg"``, the first possible.

    Raises
    ------
    FileNotFoundError
        If there is neither a video that can be decoded nor a picture; says what to do.
    """
    folder = folder_of(root)
    otherwise = _where_from(folder, VIDEOS)
    return video.choose_source(folder / VIDEOS, folder / PICTURES, otherwise)


def read_clip(name: str, root: Path, sample_rate: int, pictures: str) -> dict[str, np.ndarray]:
    """Return a clip's wave, float32 ``[n]``, and picture, uint8 ``[240, 320, 3]``.

    Raises
    ------
    FileNotFoundError or ValueError
        If a file is missing or can't be read.
    """
    wave_path = data_file(root / SOUNDS, f"{name}.wav")
    video_path = data_file(root / VIDEOS, f"{name}.flv")
    for path in (wave_path, video_path):
        if _is_pointer(path):
            raise ValueError(f"{path} is a Git LFS pointer: run `git lfs pull` in {root}")
    wave = audio.load_wave(wave_path, sample_rate)
    if pictures == "jpg":
        return {
            "wave": wave,
            "visual": video.middles_of_folder(root / PICTURES / name, FRAME_SIZE)[0],
        }
    return {"wave": wave, "visual": video.middles_of_video(video_path, pictures, FRAME_SIZE)[0]}


def missing_files(names: Collection[str], root: Path, pictures: str) -> list[tuple[str, Path]]:
    """Return clips that lack a file, or their folder of pictures, and which: sounds first.

    Raises
    ------
    FileNotFoundError
        If there is no folder of sounds at all; says where they come from.
    ValueError
        If two names differ only in the case of their ending.
    """
    if not (root / SOUNDS).is_dir():
        raise FileNotFoundError(_where_from(root, SOUNDS))
    sounds = data_files(root / SOUNDS, ".wav")
    missing = [(n, root / SOUNDS / f"{n}.wav") for n in names if f"{n}.wav" not in sounds]
    if pictures == "jpg":
        folder = root / PICTURES
        return missing + [(name, folder / name) for name in names if not (folder / name).is_dir()]
    videos = data_files(root / VIDEOS, ".flv")
    return missing + [(n, root / VIDEOS / f"{n}.flv") for n in names if f"{n}.flv" not in videos]


def _is_pointer(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def _locate_split(file: str, folder: Path) -> Path:
    local = [folder, store.data_root() / "published-splits" / "CREMAD", store.writable_root(folder)]
    for base in local:
        path = data_file(base, file)
        if path.is_file():
            return path
    target = store.writable_root(folder) / file
    return store.fetch(SPLIT_ADDRESS + file, target, SPLIT_FILES[file], "CREMA-D's split")


def _where_from(folder: Path, wanted: str) -> str:
    return (
        f"root: {folder} has no folder {wanted}. CREMA-D can't be fetched automatically: install "
        f"Git LFS (`git lfs install`), then `git clone {ADDRESS} {folder}`, or set root to the "
        f"folder that holds {SOUNDS} and {VIDEOS} (or {PICTURES})."
    )
