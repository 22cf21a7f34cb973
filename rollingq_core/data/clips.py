"""What all datasets of clips share: each is prepared once, verified, and read from its cache."""

from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from tqdm.auto import tqdm

from rollingq_core._checks import require_choice, require_integer
from rollingq_core.data import store
from rollingq_core.data.audio import Spectrogram
from rollingq_core.data.cache import building as cache_build
from rollingq_core.data.cache.reading import cached_splits
from rollingq_core.data.cache.shards import Sample
from rollingq_core.data.clip_files import ClipFiles
from rollingq_core.data.clip_report import Report
from rollingq_core.data.dataset import DataSplits

# What ViT-B/16 cuts each modality into.
PATCH = (16, 16)


class Clips(ClipFiles):
    """A dataset of clips: what :class:`ClipFiles` tells of it, prepared, verified and loaded."""

    def prepare(
        self,
        root: str | Path | None = None,
        audio: str | None = None,
        jobs: int = 1,
        pictures: str | None = None,
        progress: bool = False,
    ) -> Path:
        """Read every clip once and store spectrograms and pictures in a cache.

        Stopped at any moment and called again, it goes on, and its result is the same.

        Parameters
        ----------
        root : str or Path, optional
            The dataset's folder; by default the one in the data root. The cache is made in its
            folder ``cache`` or, where it can't be written, in the user's cache.
        audio : str, optional
            One of ``spectrograms``; by default the first.
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
            If a clip can't be read and is none of ``known_bad``, or an argument is out of range.
        OSError
            If the disk is full.
        """
        require_integer("jobs", jobs, at_least=1)
        audio, folder = self._audio(audio), self.folder_of(root)
        pictures = pictures or self.choose_pictures(folder)
        require_choice("pictures", pictures, ("pyav", "ffmpeg", "jpg"))
        clips = self.listed(folder)
        absent = self.missing([*clips], folder, pictures)
        if self.may_be_missing:
            gone = {name for name, _ in absent}
            clips = {name: clip for name, clip in clips.items() if name not in gone}
        elif needed := [path for name, path in absent if name not in self.known_bad]:
            raise FileNotFoundError(
                f"root: {needed[0]} is missing, and {len(needed) - 1} more files of clips that the "
                f"split in {folder} lists"
            )
        spectrogram = self.spectrograms[audio] if audio else None
        contents = cache_build.Contents(
            labels={name: clip.label for name, clip in clips.items()},
            classes=self.classes,
            splits={split: self.places(clips, split) for split in self.splits},
            options=_described(audio, spectrogram) | {"pictures": pictures} | self.options(),
        )
        make = partial(self.sample, folder=folder, pictures=pictures, spectrogram=spectrogram)
        target = store.writable_root(folder) / self._location(audio)
        cache_build.build(target, contents, make, jobs, progress)
        return target

    def load(
        self, split: str = "published", root: str | Path | None = None, audio: str | None = None
    ) -> DataSplits:
        """Return the dataset from its cache; inputs are read from disk as they are asked for.

        Parameters
        ----------
        split : str
            One of ``splits``.
        root, audio
            As in :meth:`prepare`.

        Raises
        ------
        FileNotFoundError
            If it is not prepared; says how to do it.
        ValueError
            If an argument is unknown, or the cache damaged.
        """
        require_choice("split", split, self.splits)
        folder = self.prepared(root, audio)
        return cached_splits(
            folder, self.name, split, self.transforms, dict.fromkeys(self.modalities, PATCH)
        )

    def prepared(self, root: str | Path | None = None, audio: str | None = None) -> Path:
        """Return the cache; a ``FileNotFoundError`` says how to make one."""
        audio, folder = self._audio(audio), self.folder_of(root)
        for base in store.search_roots(folder):
            if (base / self._location(audio)).is_dir():
                return base / self._location(audio)
        option = f" --audio {audio}" if audio else ""
        raise FileNotFoundError(
            f"root: {folder} holds no prepared {self.title}; run "
            f"`python -m rollingq_core data prepare {self.name} --root {folder}{option}`"
        )

    def verify(
        self, root: str | Path | None = None, jobs: int = 1, progress: bool = False
    ) -> Report:
        """Read every clip that the split files list, and report what is missing or damaged.

        Raises
        ------
        FileNotFoundError, ConnectionError or ValueError
            If there are no media, or no valid split files, at all.
        """
        require_integer("jobs", jobs, at_least=1)
        folder = self.folder_of(root)
        pictures = self.choose_pictures(folder)
        clips = self.listed(folder)
        absent = dict(reversed(self.missing([*clips], folder, pictures)))
        tasks = (joblib.delayed(self._fault)(name, folder, pictures) for name in clips)
        results = joblib.Parallel(n_jobs=jobs, return_as="generator", batch_size=16)(tasks)
        bar = tqdm(results, total=len(clips), disable=not progress, unit="clip")
        faults = {name: fault for name, fault in zip(clips, bar, strict=True) if fault}
        left_out = [
            f"{name} ({self.known_bad[name]}): {faults.pop(name)[1]}"
            for name in self.known_bad
            if name in faults
        ]
        if self.may_be_missing:
            gone = [name for name in absent if name in faults]
            left_out += [f"{name}: {faults.pop(name)[1]}" for name in gone]
        counts = Counter(clip.label for clip in clips.values())
        return Report(
            clips=dict(Counter(clip.place for clip in clips.values())),
            classes={name: counts[label] for label, name in enumerate(self.classes)},
            published=self.is_published(folder),
            pictures=pictures,
            missing=[text for absent, text in faults.values() if absent],
            damaged=[text for absent, text in faults.values() if not absent],
            left_out=left_out,
            unlisted=self.unlisted(folder, clips),
        )

    def sample(
        self, name: str, folder: Path, pictures: str, spectrogram: Spectrogram | None
    ) -> Sample | None:
        """Return a clip as it is stored, or None where a known bad one can't be read."""
        try:
            clip = self.read(name, folder, pictures, spectrogram)
        except (FileNotFoundError, ValueError):
            if name in self.known_bad:
                return None
            raise
        return self.stored(clip, spectrogram)

    def blank(self, audio: str | None = None) -> Sample:
        """Return what is stored of a clip that is black and silent, for its shapes.

        Parameters
        ----------
        audio : str, optional
            As in :meth:`prepare`.
        """
        audio = self._audio(audio)
        clip = {name: np.zeros(shape, np.uint8) for name, shape in self.picture_shapes.items()}
        if audio is None:
            return clip
        spectrogram = self.spectrograms[audio]
        silence = np.zeros(spectrogram.sample_rate, np.float32)
        return self.stored(clip | {"wave": silence}, spectrogram)

    def _fault(self, name: str, folder: Path, pictures: str) -> tuple[bool, str] | None:
        try:
            self.read(name, folder, pictures, next(iter(self.spectrograms.values()), None))
        except (FileNotFoundError, ValueError) as error:
            return isinstance(error, FileNotFoundError), str(error)
        return None

    def _audio(self, audio: str | None) -> str | None:
        if audio is None:
            return next(iter(self.spectrograms), None)
        if not self.spectrograms:
            raise ValueError(f"audio: got {audio!r}, expected None, as {self.title} has no sound")
        require_choice("audio", audio, tuple(self.spectrograms))
        return audio

    def _location(self, audio: str | None) -> Path:
        return Path("cache", f"{self.name}-{audio}" if audio else self.name)


def _described(audio: str | None, spectrogram: Spectrogram | None) -> dict[str, Any]:
    if spectrogram is None:
        return {}
    return {"audio": audio, "settings": asdict(spectrogram), "made_by": spectrogram.version()}
