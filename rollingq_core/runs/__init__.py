"""Runs: one, one in a folder, and many at once."""

from rollingq_core._extras import needs

with needs("train", "data"):
    from rollingq_core.runs.run import Prepared, Run, prepare, train

__all__ = ["Prepared", "Run", "prepare", "train"]
