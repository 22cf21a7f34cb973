"""CREMA-D, prepared once and then read from a cache: spectrograms and one picture a clip.

What has to lie where is told in :mod:`rollingq_core.data.cremad_files`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import joblib
import numpy as np
from tqdm.auto import tqdm

from rollingq_core._checks import require_choice, require_integer
from rollingq_core.data import store
from rollingq_core.data.audio import CREMAD_SETTINGS, StftSettings
from rollingq_core.data.cache import building as cache_build
from rollingq_core.data.cache import reading as cache
from rollingq_core.data.cremad_files import (
    EMOTIONS,
    FRAME_SIZE,
    KNOWN_BAD,
    SOUNDS,
    SPLITS,
    choose_pictures,
    folder_of,
    is_published,
    missing_files,
    parse_name,
    places,
    read_clip,
    read_split,
)
from rollingq_core.data.dataset import DataSplits
from rollingq_core.data.listing import data_files
from rollingq_core.data.transforms import Pictures, Standardise

# What ViT-B/16 cuts both into.
PATCH = {"audio": (16, 16), "visual": (16, 16)}


@dataclass(frozen=True)
class Report:
    """What :func:`verify` found.

    Attributes
    ----------
    clips : dict of str to int
        How many clips the split files list, by place.
    classes : dict of str to int
        The same by emotion.
    published : bool
        Whether the split files are the published ones: 6698 and 744 clips.
    pictures : str
        Where pictures come from: ``"pyav"``, ``"ffmpeg"`` or ``"jpg"``.
    missing : list of str
        Files that a listed clip lacks.
    damaged : list of str
        What is wrong with files that can't be read.
    left_out : list of str
        Known bad clips that are missing or damaged, and why; these are no fault.
    unlisted : list of str
        Sounds that no split file lists.
    """

    clips: dict[str, int]
    classes: dict[str, int]
    published: bool
    pictures: str
    missing: list[str]
    damaged: list[str]
    left_out: list[str]
    unlisted: list[str]

    @property
    def ok(self) -> bool:
        """Whether every listed clip can be prepared, those known to be bad aside."""
        return not self.missing and not self.damaged

    def __str__(self) -> str:
        counts = [
            " ".join(f"{name} {count}" for name, count in numbers.items())
            for numbers in (self.clips, self.classes)
        ]
        kind = "the published split" if self.published else "another split than the published"
        lines = [f"{sum(self.clips.values())} clips, {kind}: {'; '.join(counts)}"]
        lines += [f"pictures: {self.pictures}"]
        for name in ("missing", "damaged", "left_out", "unlisted"):
            entries = getattr(self, name)
            lines += [f"{name.replace('_', ' ')}: {len(entries)}"]
            lines += [f"  {entry}" for entry in entries]
        return "\n".join([*lines, "ok" if self.ok else "not ok"])


def prepare(
    root: str | Path | None = None,
    audio: str = "code",
    jobs: int = 1,
    pictures: str | None = None,
    progress: bool = False,
) -> Path:
    """Read every clip once and store spectrograms and pictures in a cache.

    Stopped at any moment and called again, it goes on, and its result is the same.

    Parameters
    ----------
    root : str or Path, optional
        The folder of CREMA-D; by default ``CREMA-D`` in the data root. The cache is made in its
        folder ``cache`` or, where it can't be written, in the user's cache.
    audio : {"code", "paper"}
        Spectrograms of 257 x 188 as in the released code, or of 257 x 299 as in the paper.
    jobs : int
        Processes to use.
    pictures : {"pyav", "ffmpeg", "jpg"}, optional
        Where pictures come from; by default the first that is possible.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Path
        The cache.

    Raises
    ------
    FileNotFoundError
        If files are missing, or nothing can decode the videos; says what to do.
    ConnectionError
        If the split files are neither there nor to be downloaded.
    ValueError
        If a clip can't be read and is none of ``KNOWN_BAD``, or an argument is out of range.
    OSError
        If the disk is full.
    """
    require_choice("audio", audio, tuple(CREMAD_SETTINGS))
    folder, settings = folder_of(root), CREMAD_SETTINGS[audio]
    pictures = pictures or choose_pictures(folder)
    require_choice("pictures", pictures, ("pyav", "ffmpeg", "jpg"))
    place_of = read_split(folder)
    needed = [name for name in place_of if name not in KNOWN_BAD]
    missing = missing_files(needed, folder, pictures)
    if missing:
        raise FileNotFoundError(
            f"root: {missing[0]} is missing, and {len(missing) - 1} more files of clips that the "
            f"split in {folder} lists"
        )
    contents = cache_build.Contents(
        labels={name: EMOTIONS.index(parse_name(name).emotion) for name in place_of},
        classes=EMOTIONS,
        splits={split: places(place_of, split) for split in SPLITS},
        options={
            "audio": audio,
            "settings": asdict(settings),
            "made_by": settings.version(),
            "pictures": pictures,
            "frame_size": list(FRAME_SIZE),
        },
    )
    make = partial(sample, root=folder, settings=settings, pictures=pictures)
    target = store.writable_root(folder) / _location(audio)
    cache_build.build(target, contents, make, jobs, progress)
    return target


def load(
    split: str = "published", root: str | Path | None = None, audio: str = "code"
) -> DataSplits:
    """Return CREMA-D from its cache.

    Inputs are ``audio [N, 1, 257, 188]`` (or 299), standardised by the training split, and
    ``visual [N, 3, 224, 224]``, cut and mirrored at random in training. Both are read from disk
    as they are asked for.

    Parameters
    ----------
    split : {"published", "speaker"}
        As in :func:`rollingq_core.data.cremad_files.places`.
    root, audio
        As in :func:`prepare`.

    Raises
    ------
    FileNotFoundError
        If it is not prepared; says how to do it.
    ValueError
        If an argument is unknown, or the cache damaged.
    """
    require_choice("split", split, SPLITS)
    require_choice("audio", audio, tuple(CREMAD_SETTINGS))
    folder = folder_of(root)
    for base in store.search_roots(folder):
        if (base / _location(audio)).is_dir():
            return cache.cached_splits(base / _location(audio), "cremad", split, transforms, PATCH)
    raise FileNotFoundError(
        f"root: {folder} holds no prepared CREMA-D; run "
        f"`python -m rollingq_core data prepare cremad --root {folder} --audio {audio}`"
    )


def verify(root: str | Path | None = None, jobs: int = 1, progress: bool = False) -> Report:
    """Read every clip that the split files list, and report what is missing or damaged.

    Raises
    ------
    FileNotFoundError, ConnectionError or ValueError
        If there are no sounds, no pictures, or no valid split files at all.
    """
    require_integer("jobs", jobs, at_least=1)
    folder = folder_of(root)
    pictures = choose_pictures(folder)
    place_of = read_split(folder)
    missing_files(place_of, folder, pictures)
    tasks = (joblib.delayed(_fault)(name, folder, pictures) for name in place_of)
    results = joblib.Parallel(n_jobs=jobs, return_as="generator", batch_size=16)(tasks)
    bar = tqdm(results, total=len(place_of), disable=not progress, unit="clip")
    faults = {name: fault for name, fault in zip(place_of, bar, strict=True) if fault}
    left_out = {name: faults.pop(name) for name in KNOWN_BAD if name in faults}
    emotions = Counter(parse_name(name).emotion for name in place_of)
    sounds = {path.stem for path in data_files(folder / SOUNDS, ".wav").values()}
    return Report(
        clips=dict(Counter(place_of.values())),
        classes={emotion: emotions[emotion] for emotion in EMOTIONS},
        published=is_published(folder),
        pictures=pictures,
        missing=[text for absent, text in faults.values() if absent],
        damaged=[text for absent, text in faults.values() if not absent],
        left_out=[f"{name} ({KNOWN_BAD[name]}): {text}" for name, (_, text) in left_out.items()],
        unlisted=sorted(sounds - set(place_of)),
    )


def sample(
    name: str, root: Path, settings: StftSettings, pictures: str
) -> dict[str, np.ndarray] | None:
    """Return a clip as it is stored, or None where a known bad one can't be read."""
    try:
        clip = read_clip(name, root, settings.sample_rate, pictures)
    except (FileNotFoundError, ValueError):
        if name in KNOWN_BAD:
            return None
        raise
    # Half precision errs by .008 at most near the floor of -16, and the values vary by about 3.
    return {"audio": settings(clip["wave"])[None].astype(np.float16), "visual": clip["visual"]}


def transforms(scale: Mapping[str, list[float]], training: bool) -> dict:
    """Return what becomes of each modality's rows as they are read."""
    return {"audio": Standardise(*scale["audio"]), "visual": Pictures(augment=training)}


def _location(audio: str) -> Path:
    return Path("cache", f"cremad-{audio}")


def _fault(name: str, root: Path, pictures: str) -> tuple[bool, str] | None:
    try:
        read_clip(name, root, CREMAD_SETTINGS["code"].sample_rate, pictures)
    except (FileNotFoundError, ValueError) as error:
        return isinstance(error, FileNotFoundError), str(error)
    return None
