"""The curves of a run in a notebook, drawn anew after each epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from IPython.display import DisplayHandle, display

from rollingq_core.plots import BookFigure, run_curves


class LiveCurves:
    """AIR, share and accuracy of a run: give it to ``train_in`` as ``watch``.

    The figure appears with the first epoch, and later ones draw it anew in the same place.

    Parameters
    ----------
    title, caption, alt
        As in :func:`rollingq_core.plots.run_curves` and :class:`rollingq_core.plots.BookFigure`.
    every
        Draw each ``every``-th epoch of fusion only, where epochs take less time than drawings.
    """

    def __init__(self, title: str, caption: str, alt: str, every: int = 1) -> None:
        self.title, self.caption, self.alt, self.every = title, caption, alt, every
        self.handle: DisplayHandle | None = None

    def __call__(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Draw the epochs so far."""
        fused = sum(record["stage"] == "fusion" for record in history)
        if not fused or (self.handle is not None and fused % self.every):
            return
        shown = BookFigure(run_curves(history, self.title), self.caption, self.alt)
        if self.handle is None:
            self.handle = display(shown, display_id=True)
        else:
            self.handle.update(shown)
