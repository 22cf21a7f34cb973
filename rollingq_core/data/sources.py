"""Every dataset of the book, one line each, and how it is loaded by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from rollingq_core._checks import require_choice
from rollingq_core._extras import needs

with needs("data"):
    from rollingq_core.data.arrays import from_npz
    from rollingq_core.data.dataset import DataSplits


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Parameters
    ----------
    about
        What it is, in a line.
    load
        From options, ``seed`` among them, to :class:`DataSplits`; or the name of the module of
        :mod:`rollingq_core.data` that has such a ``load``. That is imported when it is needed, so
        that synthetic tokens need neither librosa nor scikit-learn.
    options
        Options that make this dataset of what ``load`` returns by default.
    seeded
        Whether ``load`` takes a seed; a dataset with published splits does not.
    full_size
        Whether inputs have the paper's size, which the book's CPU settings are not made for.

    Examples
    --------
    >>> SOURCES["synthetic"].draw(seed=1, train_samples=20).train.inputs["audio"].shape
    torch.Size([20, 8, 32])
    """

    about: str
    load: str | Callable[..., DataSplits]
    options: Mapping[str, Any] = field(default_factory=dict)
    seeded: bool = True
    full_size: bool = False

    def draw(self, seed: int = 0, **options: Any) -> DataSplits:
        """Return the dataset, as the seed draws it; ``options`` are those of its ``load``."""
        # A library that is missing may be one that only this dataset needs.
        with needs("data"):
            load = self.load
            if isinstance(load, str):
                load = import_module(f"rollingq_core.data.{load}").load
            seeds = {"seed": seed} if self.seeded else {}
            return load(**{**self.options, **seeds, **options})


def _large(about: str, load: str, options: Mapping[str, Any] | None = None) -> Source:
    """Return the source of a dataset at the paper's input sizes, with published splits."""
    return Source(about, load, options or {}, seeded=False, full_size=True)


THEO = {"held_out_speaker": "theo"}
QUIET = {"token_noise": 0.0}
VISUAL_TEXT = {"modalities": ("visual", "text")}
AUDIO_TEXT = {"modalities": ("audio", "text")}
SEVEN = {"known_digits": 7}
NEAR, FAR = {"known": "near"}, {"known": "far"}
SOURCES = {
    "synthetic": Source("tokens drawn at random, audio louder than vision", "synthetic"),
    "digits": Source("small digits, spoken (synthesised) and written; ships with it", "digits"),
    "digits-seven": Source("the same, of which 7, 8 and 9 are unknown", "digits", SEVEN),
    "avmnist": Source("recorded spoken digits and MNIST's images", "avmnist"),
    "avmnist-seven": Source("the same, of which 7, 8 and 9 are unknown", "avmnist", SEVEN),
    "avmnist-quiet": Source("avmnist, no token of which is noise", "avmnist", QUIET),
    "avmnist-new-speaker": Source(
        "the same, tested on an unheard speaker", "avmnist", THEO | QUIET
    ),
    "avmnist-new-speaker-noisy": Source("avmnist, tested on an unheard speaker", "avmnist", THEO),
    "avmnist-pretrained": Source("avmnist as ImageNet features", "avmnist_pretrained"),
    "avmnist-new-speaker-pretrained": Source(
        "the same, tested on an unheard speaker", "avmnist_pretrained", THEO
    ),
    "avmnist_full": Source("avmnist at the paper's input sizes", "avmnist_full", full_size=True),
    "cremad": _large("CREMA-D, acted emotions", "cremad"),
    "kinetics_sounds": _large(
        "Kinetics-Sounds, filmed actions that can be heard", "kinetics_sounds"
    ),
    "ucf101": _large("UCF-101, filmed actions and their optical flow", "ucf101"),
    "ucf101-near": _large("the same, of which 51 of 101 are unknown", "ucf101", NEAR),
    "hmdb51": _large("HMDB51, filmed actions and their optical flow", "hmdb51"),
    "hmdb51-near": _large("the same, of which 26 of 51 are unknown", "hmdb51", NEAR),
    "hmdb51-far": _large("the same, and UCF-101's actions are unknown", "hmdb51", FAR),
    "mosi": Source("CMU-MOSI, opinions heard, seen and read", "mosi"),
    "mosi-visual-text": Source("the same, seen and read", "mosi", VISUAL_TEXT),
    "mosi-audio-text": Source("the same, heard and read", "mosi", AUDIO_TEXT),
    "mosei": Source("CMU-MOSEI, opinions heard, seen and read", "mosei", seeded=False),
    "mosei-visual-text": Source("the same, seen and read", "mosei", VISUAL_TEXT, seeded=False),
    "mosei-audio-text": Source("the same, heard and read", "mosei", AUDIO_TEXT, seeded=False),
}

# Those that have to be prepared first: each is a module that prepares, verifies and loads.
PREPARED = ("cremad", "kinetics_sounds", "mosei", "ucf101", "hmdb51")


def load_dataset(name: str, seed: int = 0, **options: Any) -> DataSplits:
    """Load a dataset by name, or a reader's own from a file.

    Parameters
    ----------
    name : str
        One of ``SOURCES``, or the path of an ``.npz`` file (see
        :func:`rollingq_core.data.from_npz`).
    seed : int
        Draws pairs, noise or splits, where the dataset has none of its own.
    **options
        Arguments of that dataset's ``load`` function.

    Raises
    ------
    ValueError
        If there is no dataset of that name, or the file is none.
    OSError
        If there is no such file.
    ModuleNotFoundError
        If a library that reads it is missing; the message names the extra to install.
    """
    if is_file_name(name):
        return from_npz(name, seed=seed, **options)
    return require_source(name).draw(seed, **options)


def require_source(name: str) -> Source:
    """Return a dataset's source; a ``ValueError`` names those that there are."""
    if name not in SOURCES:
        raise ValueError(f"name: got {name!r}, expected one of {[*SOURCES]}, or a file FILE.npz")
    return SOURCES[name]


def located(name: str) -> str:
    """Return a dataset's name as it is, and a file's as one that holds in any folder."""
    return str(Path(name).absolute()) if is_file_name(name) else name


def is_file_name(name: str) -> bool:
    """Return whether a dataset's name is that of a reader's own file."""
    return Path(name).suffix == ".npz"


def require_small(argument: str, name: str | Path) -> None:
    """Refuse a dataset's name that is neither of a small one nor a reader's own file."""
    small = tuple(name for name, source in SOURCES.items() if not source.full_size)
    if not is_file_name(str(name)):
        require_choice(argument, name, small)
