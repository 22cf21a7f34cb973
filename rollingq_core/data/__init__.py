"""Paired audio-visual data: what a sample is, and where each dataset comes from."""

from importlib import import_module

from rollingq_core.data.dataset import DataSplits, PairedDataset

__all__ = ["DATASETS", "DataSplits", "PairedDataset", "load_dataset"]

DATASETS = ("synthetic", "digits", "avmnist")


def load_dataset(name: str, **options) -> DataSplits:
    """Load a dataset by name.

    Parameters
    ----------
    name : {"synthetic", "digits", "avmnist"}
        ``synthetic`` draws tokens; ``digits`` ships with the package; ``avmnist`` pairs recorded
        spoken digits with MNIST images, read from the data root or downloaded.
    **options
        Arguments of that dataset's ``load`` function, such as ``seed``.

    Raises
    ------
    ValueError
        If there is no dataset of that name.
    """
    if name not in DATASETS:
        raise ValueError(f"name: got {name!r}, expected one of {DATASETS}")
    # Imported on demand: synthetic tokens need neither librosa nor scikit-learn.
    return import_module(f"rollingq_core.data.{name}").load(**options)
