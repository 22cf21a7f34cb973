"""CMU-MOSEI as it lies on disk: a pickle, and the arrays that are taken from it once."""

from pathlib import Path

import numpy as np

from rollingq_core._checks import require_integer
from rollingq_core._files import one_process_at_a_time, written_whole
from rollingq_core.data import store
from rollingq_core.data.unpickling import ORIGIN, convert

HOME, FILE, TITLE = "CMU-MOSEI", "mosei_senti_data.pkl", "CMU-MOSEI"
NEEDS = (
    f"CMU-MOSEI has to be fetched by hand: its folder holds {FILE}, the aligned features that "
    "https://github.com/pliang279/MultiBench links to; of the pickle nothing but arrays is read."
)
PUBLISHED = {"audio": "audio", "visual": "vision", "text": "text"}
FEATURES = {"audio": 74, "visual": 35, "text": 300}
STEPS = 50
PLACES = {"train": "train", "valid": "validation", "test": "test"}
COUNTS = {"train": 16326, "valid": 1871, "test": 4659}
CONVERTED = Path("cache", "mosei.npz")


def folder_of(root: str | Path | None = None) -> Path:
    """Return ``root``, or else the folder ``CMU-MOSEI`` of the data root."""
    return Path(root).expanduser() if root else store.data_root() / HOME


def prepare(
    root: str | Path | None = None,
    audio: None = None,
    jobs: int = 1,
    *,
    progress: bool = False,
) -> Path:
    """Take the published pickle's arrays, once, into a file of numbers and text alone.

    Parameters
    ----------
    root : str or Path, optional
        The dataset's folder; by default the one in the data root. The result lies in its folder
        ``cache`` or, where it can't be written, in the user's cache.
    audio
        None, as there are no spectrograms to choose from.
    jobs, progress
        Of no use here, where one file is read.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileNotFoundError
        The pickle is missing; says where it comes from.
    ValueError
        It holds anything but the arrays that are expected.
    OSError
        The disk is full.
    """
    if audio is not None:
        raise ValueError(f"audio: got {audio!r}, expected None, as {TITLE} has no sound")
    require_integer("jobs", jobs, at_least=1)
    folder = folder_of(root)
    source = folder / FILE
    if not source.is_file():
        raise FileNotFoundError(f"root: {folder} has no {FILE}. {NEEDS}")
    target = store.writable_root(folder) / CONVERTED
    with one_process_at_a_time(target):
        if _made_from(target) != store.sha256_file(source):
            with written_whole(target) as file:
                convert(source, file)
                _read(Path(file.name), source)
    return target


def read_prepared(root: str | Path | None = None) -> dict[str, np.ndarray]:
    """Return the arrays, as ``train/audio`` and so on; a ``FileNotFoundError`` says how to."""
    folder = folder_of(root)
    for base in store.search_roots(folder):
        if (base / CONVERTED).is_file():
            return _read(base / CONVERTED, base / CONVERTED)
    raise FileNotFoundError(
        f"root: {folder} holds no prepared {TITLE}; run "
        f"`python -m rollingq_core data prepare mosei --root {folder}`"
    )


def _made_from(path: Path) -> str | None:
    """Return the SHA-256 of the pickle that a converted file was made from, if it is one."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return str(stored[ORIGIN])
    except (*store.DAMAGE, KeyError):
        return None


def _read(path: Path, source: Path) -> dict[str, np.ndarray]:
    """Return the converted arrays, if they are what the published file holds."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    for split in PLACES:
        for key in (*PUBLISHED.values(), "labels", "id"):
            if f"{split}/{key}" not in arrays:
                raise ValueError(f"source: {source} has no {split}/{key}")
        count = len(arrays[f"{split}/labels"])
        for name, key in PUBLISHED.items():
            found, expected = arrays[f"{split}/{key}"], (count, STEPS, FEATURES[name])
            if found.shape != expected or found.dtype.kind != "f":
                raise ValueError(
                    f"source: {source} has {split}/{key} of shape {found.shape} and type "
                    f"{found.dtype}, expected floats {expected}"
                )
            if not (np.isfinite(found) | (np.isneginf(found) & (name == "audio"))).all():
                raise ValueError(f"source: {source} has {split}/{key} with NaN or infinity")
        opinions = arrays[f"{split}/labels"]
        if opinions.size != count or not count or not (np.abs(opinions) <= 3).all():
            raise ValueError(f"source: {source} has {split}/labels outside of [-3, 3], or none")
        if len(arrays[f"{split}/id"]) != count:
            raise ValueError(f"source: {source} has not one {split}/id for each of its labels")
    return arrays
