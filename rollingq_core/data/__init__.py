"""Paired audio-visual data: what a sample is, and where each dataset comes from."""

from importlib import import_module

from rollingq_core._extras import needs

with needs("data"):
    from rollingq_core.data.arrays import from_arrays, from_npz
    from rollingq_core.data.dataset import DataSplits, PairedDataset

__all__ = [
    "DATASETS",
    "LARGE_DATASETS",
    "DataSplits",
    "PairedDataset",
    "from_arrays",
    "from_npz",
    "load_dataset",
]

DATASETS = ("synthetic", "digits", "avmnist")
# At the paper's input sizes, which the book's CPU settings are not made for.
LARGE_DATASETS = ("avmnist_full", "cremad")
# Of three modalities: for Python, as no command and no chapter reads it yet.
THREE_MODALITIES = ("mosi",)


def load_dataset(name: str, **options) -> DataSplits:
    """Load a dataset by name.

    Parameters
    ----------
    name : {"synthetic", "digits", "avmnist", "avmnist_full", "cremad", "mosi"}
        ``synthetic`` draws tokens; ``digits`` ships with the package; ``avmnist`` pairs recorded
        spoken digits with MNIST images, read from the data root or downloaded, and
        ``avmnist_full`` brings such pairs to the paper's input sizes; ``cremad`` is CREMA-D, once
        it is prepared (``rollingq data prepare cremad``); ``mosi`` is CMU-MOSI, utterances that are
        heard, seen and read.
    **options
        Arguments of that dataset's ``load`` function, such as ``seed``.

    Raises
    ------
    ValueError
        If there is no dataset of that name.
    ModuleNotFoundError
        If a library that reads it is missing; the message names the extra to install.
    """
    known = DATASETS + LARGE_DATASETS + THREE_MODALITIES
    if name not in known:
        raise ValueError(f"name: got {name!r}, expected one of {known}")
    # Imported on demand: synthetic tokens need neither librosa nor scikit-learn.
    with needs("data"):
        return import_module(f"rollingq_core.data.{name}").load(**options)
