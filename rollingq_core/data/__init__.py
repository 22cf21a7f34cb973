"""Paired multimodal data: what a sample is, and where each dataset comes from."""

from rollingq_core._extras import needs

with needs("data"):
    from rollingq_core.data.arrays import from_arrays, from_npz
    from rollingq_core.data.dataset import DataSplits, PairedDataset
    from rollingq_core.data.sources import SOURCES, Source, load_dataset

__all__ = [
    "SOURCES",
    "DataSplits",
    "PairedDataset",
    "Source",
    "from_arrays",
    "from_npz",
    "load_dataset",
]
