"""CMU-MOSEI: 22 856 utterances of video reviews, heard, seen and read, word by word.

Bagher Zadeh et al. 2018; aligned features as MultiBench publishes them (Liang et al. 2021):
``mosei_senti_data.pkl``. It is opened once, by :mod:`rollingq_core.data.unpickling`; see
:mod:`rollingq_core.data.mosei_features`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rollingq_core._checks import require_choice, require_some_of
from rollingq_core.data.clip_files import tenth
from rollingq_core.data.dataset import DataSplits, PairedDataset, hash_splits
from rollingq_core.data.mosei_features import (
    COUNTS,
    NEEDS,
    PLACES,
    PUBLISHED,
    STEPS,
    folder_of,
    prepare,
    read_prepared,
)

__all__ = ["NEEDS", "Report", "folder_of", "load", "prepare", "verify"]

SPLITS = ("published", "group")
# By the name of a task: its classes, and from opinions in [-3, 3] to them. The paper does not say
# which one it has.
TASKS: dict[str, tuple[tuple[str, ...], Callable[[np.ndarray], np.ndarray]]] = {
    "three": (
        ("negative", "positive", "neutral"),
        lambda y: np.select([y < -0.5, y > 0.5], [0, 1], 2),
    ),
    "positive": (("not positive", "positive"), lambda y: (y > 0).astype(np.int64)),
    "negative": (("negative", "not negative"), lambda y: (y >= 0).astype(np.int64)),
    "seven": (
        tuple(f"{opinion:+d}" for opinion in range(-3, 4)),
        lambda y: np.rint(y.clip(-3, 3)).astype(np.int64) + 3,
    ),
}


@dataclass(frozen=True)
class Report:
    """What :func:`verify` found.

    Attributes
    ----------
    utterances : dict of str to int
        How many there are, by the published split.
    published : bool
        Whether they are as many as published.
    without_text : int
        How many have no word, and are left out.
    silent : int
        How many numbers of the audio were minus infinity, and are 0.
    majority : dict of str to float
        What always naming the most frequent class of the test split gets right, by task.
    """

    utterances: dict[str, int]
    published: bool
    without_text: int
    silent: int
    majority: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether it can be prepared, which a file that could be read can."""
        return True

    def __str__(self) -> str:
        kind = "as published" if self.published else "other than published"
        counts = " ".join(f"{name} {count}" for name, count in self.utterances.items())
        lines = [f"{sum(self.utterances.values())} utterances, {kind}: {counts}"]
        lines += [f"left out, without a word: {self.without_text}"]
        lines += [f"audio of minus infinity, taken for 0: {self.silent} numbers"]
        lines += [f"majority, {task}: {100 * rate:.1f} %" for task, rate in self.majority.items()]
        return "\n".join([*lines, "ok"])


def verify(root: str | Path | None = None, jobs: int = 1, progress: bool = False) -> Report:
    """Read the published pickle, and report what it holds.

    Raises
    ------
    FileNotFoundError, ValueError or OSError
        As in :func:`prepare`, which is done on the way.
    """
    prepare(root, jobs=jobs)
    arrays = read_prepared(root)
    counts = {split: len(arrays[f"{split}/labels"]) for split in PLACES}
    kept = {split: _spoken(arrays[f"{split}/text"]) for split in PLACES}
    tests = arrays["test/labels"].reshape(-1)[kept["test"]]
    rates = {task: Counter(of(tests).tolist()) for task, (_, of) in TASKS.items()}
    return Report(
        utterances=counts,
        published=counts == COUNTS,
        without_text=sum(int((~words).sum()) for words in kept.values()),
        silent=sum(int(np.isneginf(arrays[f"{split}/audio"]).sum()) for split in PLACES),
        majority={
            task: max(c.values(), default=0) / max(len(tests), 1) for task, c in rates.items()
        },
    )


def load(
    split: str = "published",
    root: str | Path | None = None,
    modalities: Sequence[str] = ("audio", "visual", "text"),
    task: str = "three",
) -> DataSplits:
    """Return the utterances, a token a word.

    Inputs are ``audio [N, 50, 74]``, ``visual [N, 50, 35]`` and ``text [N, 50, 300]``, each
    feature standardised by the words of the training split. They begin with the first word; what
    lies behind the last one is padding. Utterances without a word are left out.

    Parameters
    ----------
    split : {"published", "group"}
        The published one, or a tenth of the videos each to validate and to test.
    root : str or Path, optional
        As in :func:`prepare`.
    modalities : sequence of str
        Which modalities, in which order.
    task : {"three", "positive", "negative", "seven"}
        Negative, positive and neutral within half a point of 0; positive or not; negative or not;
        or the nearest of -3 to 3.

    Raises
    ------
    FileNotFoundError
        It is not prepared; says how to do it.
    ValueError
        An unknown option, unknown or doubled modalities, or a damaged file.
    """
    require_choice("split", split, SPLITS)
    require_choice("task", task, tuple(TASKS))
    require_some_of("modalities", modalities, [*PUBLISHED])
    arrays = read_prepared(root)
    classes, labels_of = TASKS[task]
    every = {key: _joined(arrays, key) for key in ("text", "labels", "id")}
    spoken = _spoken(every["text"])
    labels = labels_of(every["labels"].reshape(len(spoken), -1)[spoken, 0])
    places = _places(arrays, split)[spoken]
    rows, padding = _from_first_word(every["text"][spoken])
    inputs = {}
    for name in modalities:
        values = _joined(arrays, PUBLISHED[name])[spoken].astype(np.float32)
        values = np.where(np.isneginf(values), 0, values)
        words = np.take_along_axis(values, rows[..., None], axis=1)
        inputs[name] = _standardised(words, padding, places == "train")
    train, validation, test = (
        PairedDataset(
            {name: torch.from_numpy(values[places == place]) for name, values in inputs.items()},
            torch.from_numpy(labels[places == place]),
            {name: torch.from_numpy(padding[places == place]) for name in inputs},
        )
        for place in PLACES.values()
    )
    whole = tuple(modalities) == tuple(PUBLISHED)
    return DataSplits(
        name="mosei" if whole else "-".join(["mosei", *modalities]),
        train=train,
        validation=validation,
        test=test,
        classes=classes,
        patch=None,
        data_hash=hash_splits(train, validation, test),
        favoured="text" if "text" in modalities else None,
    )


def _joined(arrays: dict[str, np.ndarray], key: str) -> np.ndarray:
    return np.concatenate([arrays[f"{split}/{key}"] for split in PLACES])


def _spoken(text: np.ndarray) -> np.ndarray:
    """Return which utterances ``[N, 50, 300]`` have a word."""
    return np.any(text, axis=(1, 2))


def _places(arrays: dict[str, np.ndarray], split: str) -> np.ndarray:
    counts = [len(arrays[f"{part}/labels"]) for part in PLACES]
    if split == "published":
        return np.repeat([*PLACES.values()], counts)
    ids = _joined(arrays, "id")
    videos = ids.reshape(len(ids), -1)[:, 0]
    of_tenth = {0: "validation", 1: "test"}
    return np.array([of_tenth.get(tenth(str(video)), "train") for video in videos])


def _from_first_word(text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of each utterance from its first word on, and which lie behind the last."""
    is_word = np.any(text, axis=2)
    first = is_word.argmax(axis=1)
    last = STEPS - 1 - is_word[:, ::-1].argmax(axis=1)
    steps = first[:, None] + np.arange(STEPS)
    return steps.clip(max=STEPS - 1), steps > last[:, None]


def _standardised(words: np.ndarray, padding: np.ndarray, training: np.ndarray) -> np.ndarray:
    known = words[training][~padding[training]].astype(np.float64)
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    # A feature that never changes in training says nothing.
    scaled = (words - mean) / np.where(deviation > 0, deviation, np.inf)
    return np.where(padding[..., None], 0, scaled).astype(np.float32)
