"""CMU-MOSI: 2199 utterances of video reviews, heard, seen and read.

Zadeh et al. 2016; utterance-level features by Poria et al. (ACL 2017), as published in
declare-lab/multimodal-deep-learning (MIT). An utterance alone is one vector a modality. Its
sequence of tokens is itself between its neighbours in the video, so that a fusion can read what
was said before and after; the label says whether the one in the middle is in favour.

The published test videos test. No video, hence no speaker, is on two sides.
"""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rollingq_core._checks import require_integer, require_some_of
from rollingq_core.data import store
from rollingq_core.data.dataset import DataSplits, PairedDataset, hash_splits

COMMIT = "111b401d867c14a1dcd930fd2b2ab58a5eca3f70"
ADDRESS = (
    f"https://raw.githubusercontent.com/declare-lab/multimodal-deep-learning/{COMMIT}/bc-LSTM/data/"
)
LOCATION = Path("CMU-MOSI")
# Names of the published files begin so.
PUBLISHED = {"audio": "audio", "visual": "video", "text": "text"}
SHA256 = {
    "audio_test0.csv": "ddd17eeefd3d951d51d4e2ef8a0d132652d8161e1886f71eb7262b7a14bffff6",
    "audio_train0.csv": "5435398a54664e7b00304587dc59ae84a438852be033c2a2fba779588624a2a1",
    "text_test0.csv": "a343e22272919d1384c2075dbcdd5fef5aa9f9366b0552a83f7c3147b64b047a",
    "text_train0.csv": "cc327045db6cc361a08b4037b97bb24de4ddb5efb381468c4835cc4a60674668",
    "transcripts.csv": "e7689e6d70720addd2a6b316419d245a68839c32b014ff426c406063ee777466",
    "video_test0.csv": "cab836253d81100f59d533fa2ff65cd53c486be3ec9fd82203c5e25a7a77265f",
    "video_train0.csv": "b6efc0413132d627efd06f67f1706830e775e90af9a75696f535c48dbc73f12f",
}
# The first column of the published text_train.csv and text_test.csv, one number a line.
INDEX_SHA256 = {
    "train": "1a19bc28341d5b6bb8f8002ff59f055c1777adabb14dfa126914d57c6f098471",
    "test": "6576c50a0babb511e84c9a0233a62510de81365e0078fbd83e5fc848f49359e1",
}


def load(
    seed: int = 0,
    neighbours: int = 2,
    modalities: Sequence[str] = ("audio", "visual", "text"),
    validation_videos: int = 12,
    root: str | Path | None = None,
) -> DataSplits:
    """Return utterances between their neighbours, one token each.

    Inputs are ``audio [N, L, 73]``, ``visual [N, L, 100]`` and ``text [N, L, 100]`` with
    ``L = 2 * neighbours + 1``, each feature standardised by the training split. Places before a
    video's first and after its last utterance are padding. Classes are negative and positive.

    Parameters
    ----------
    seed : int
        Chooses the validation videos.
    neighbours : int
        Utterances on each side, 0 or more.
    modalities : sequence of str
        Which modalities, in which order.
    validation_videos : int
        How many of the published 62 training videos validate, from 1 to 61.
    root : str or Path, optional
        Data root (see :func:`rollingq_core.data.store.data_root`).

    Raises
    ------
    ConnectionError
        The files are neither there nor can they be downloaded.
    ValueError
        An option out of range, unknown or doubled modalities, or a damaged file.
    """
    require_integer("seed", seed, at_least=0)
    require_integer("neighbours", neighbours, at_least=0)
    require_some_of("modalities", modalities, [*PUBLISHED])
    utterances = read_utterances(root)
    split_of = carve_validation(utterances["video"], utterances["split"], validation_videos, seed)
    rows, padding = windows(utterances["video"], utterances["number"], neighbours)
    training = split_of == "train"
    tokens = {}
    for name in modalities:
        features = utterances[name].astype(np.float64)
        mean, deviation = features[training].mean(0), features[training].std(0)
        # A feature that never changes in training says nothing.
        scaled = (features - mean) / np.where(deviation > 0, deviation, np.inf)
        tokens[name] = np.where(padding[..., None], 0, scaled[rows]).astype(np.float32)
    train, validation, test = (
        PairedDataset(
            {name: torch.from_numpy(values[split_of == split]) for name, values in tokens.items()},
            torch.from_numpy(utterances["label"][split_of == split]),
            {name: torch.from_numpy(padding[split_of == split]) for name in tokens},
        )
        for split in ("train", "validation", "test")
    )
    whole = tuple(modalities) == tuple(PUBLISHED)
    return DataSplits(
        name="mosi" if whole else "-".join(["mosi", *modalities]),
        train=train,
        validation=validation,
        test=test,
        classes=("negative", "positive"),
        patch=None,
        data_hash=hash_splits(train, validation, test),
        favoured="text" if "text" in modalities else None,
    )


def carve_validation(
    videos: np.ndarray, splits: np.ndarray, validation_videos: int, seed: int
) -> np.ndarray:
    """Return each utterance's split, some training videos having been put aside to validate."""
    candidates = np.unique(videos[splits == "train"])
    require_integer("validation_videos", validation_videos, at_least=1, at_most=len(candidates) - 1)
    chosen = np.random.default_rng(seed).choice(candidates, validation_videos, replace=False)
    return np.where(np.isin(videos, chosen), "validation", splits)


def windows(
    videos: np.ndarray, numbers: np.ndarray, neighbours: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of N utterances the rows around it in its video, and which are padding.

    Parameters
    ----------
    videos, numbers : np.ndarray
        Video of each utterance ``[N]``, and its place there.
    neighbours : int
        Utterances k on each side.

    Returns
    -------
    (np.ndarray, np.ndarray)
        Row numbers ``[N, 2k + 1]``, the utterance itself in the middle and in place of what is
        not there; and ``[N, 2k + 1]`` bool, True where there is none.
    """
    order = np.lexsort((numbers, videos))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    wanted = place[:, None] + np.arange(-neighbours, neighbours + 1)
    rows = order[wanted.clip(0, len(order) - 1)]
    outside = (wanted < 0) | (wanted >= len(order))
    padding = outside | (videos[rows] != videos[:, None])
    own = np.arange(len(order))[:, None]
    return np.where(padding, own, rows), padding


def read_utterances(root: str | Path | None = None) -> dict[str, np.ndarray]:
    """Return all utterances in the order of the transcripts, from the cache where possible.

    Returns
    -------
    dict of str to np.ndarray
        ``audio``, ``visual``, ``text`` float32 ``[2199, p]``; ``label`` int64 (1 is positive);
        ``video`` and ``split`` as text; ``number``, its place in the video.

    Raises
    ------
    ConnectionError
        If the files are neither in the data root nor to be downloaded.
    ValueError
        If a file differs from the known one.
    """
    key = store.fingerprint(sources=SHA256 | INDEX_SHA256)
    return store.cached_arrays("mosi", key, lambda: _read(root), root)


def _read(root: str | Path | None) -> dict[str, np.ndarray]:
    paths = {name: _file(name, sha256, root) for name, sha256 in SHA256.items()}
    rows = {split: _index(split, root) for split in INDEX_SHA256}
    transcripts = _table(paths["transcripts.csv"])
    videos, numbers = zip(*(row[0].rsplit("_", 1) for row in transcripts), strict=True)
    labels = np.array([int(row[-1]) for row in transcripts])
    splits = np.empty(len(transcripts), dtype="<U5")
    for split, chosen in rows.items():
        splits[chosen] = split
    features: dict[str, np.ndarray] = {}
    for name, published in PUBLISHED.items():
        for split, chosen in rows.items():
            table = np.array(_table(paths[f"{published}_{split}0.csv"]), dtype=np.float64)
            if not np.array_equal(table[:, -1], labels[chosen]):
                raise ValueError(f"{published}_{split}0.csv: its labels are not the transcripts'")
            whole = features.setdefault(
                name, np.zeros((len(transcripts), table.shape[1] - 1), dtype=np.float32)
            )
            whole[chosen] = table[:, :-1]
    return {
        **features,
        "label": labels,
        "video": np.array(videos),
        "number": np.array(numbers, dtype=np.int64),
        "split": splits,
    }


def _file(name: str, sha256: str | None, root: str | Path | None) -> Path:
    """Return the published file ``name``, downloading it if no data root has it."""
    for base in store.search_roots(root):
        path = base / LOCATION / name
        if path.is_file():
            if sha256 is not None:
                store.verify_file(path, sha256)
            return path
    target = store.writable_root(root) / LOCATION / name
    return store.fetch(ADDRESS + name, target, sha256, "CMU-MOSI")


def _index(split: str, root: str | Path | None) -> np.ndarray:
    """Return the transcript's row of each row of features.

    The published file that says so holds far more, and is not kept: its first column is.
    """
    name = f"index_{split}.csv"
    for base in store.search_roots(root):
        path = base / LOCATION / name
        if path.is_file():
            store.verify_file(path, INDEX_SHA256[split])
            return np.array([int(row[0]) for row in _table(path)])
    column = [row[0] for row in _table(_file(f"text_{split}.csv", None, root))]
    text = "".join(f"{number}\n" for number in column)
    if hashlib.sha256(text.encode()).hexdigest() != INDEX_SHA256[split]:
        raise ValueError(f"text_{split}.csv: its first column is not the known one")
    return np.array(column, dtype=np.int64)


def _table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [*csv.reader(file)]
