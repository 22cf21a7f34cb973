"""The curves of a run in a notebook, drawn anew after each epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from IPython.display import DisplayHandle, display

from rollingq_core.plots import BookFigure, run_curves


class LiveCurves:
    """AIR, share and accuracy of a run: give it to ``train_in`` as ``watch``.

    The figure appears with the first epoch, and each further one draws it anew in the same place.

    Parameters
    ----------
    title, caption, alt
        As in :func:`rollingq_core.plots.run_curves` and :class:`rollingq_core.plots.BookFigure`.
    """

    def __init__(self, title: str, caption: str, alt: str) -> None:
        self.title, self.caption, self.alt = title, caption, alt
        self.handle: DisplayHandle | None = None

    def __call__(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Draw the epochs so far."""
        if not any(record["stage"] == "fusion" for record in history):
            return
        shown = BookFigure(run_curves(history, self.title), self.caption, self.alt)
        if self.handle is None:
            self.handle = display(shown, display_id=True)
        else:
            self.handle.update(shown)
