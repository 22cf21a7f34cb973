"""A figure laid out anew for a phone: panels one below another, text as large as before."""

import pickle
import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text

# Inches. On a phone 350 pixels wide, text of 8 points is then 10 pixels high.
WIDTH = 3.9
LOWEST_PANEL = 2.2


def for_phone(drawn: Figure) -> Figure:
    """Return a narrow copy of the figure; the figure itself stays as it is.

    Panels that stood side by side stand one below another, each with its own title and labels.
    A figure made with ``stacks=False`` keeps its columns. What is too long for the narrow width is
    broken into lines.
    """
    made = pickle.loads(pickle.dumps(drawn))
    panels = [axis for axis in made.axes if axis.get_subplotspec() is not None]
    rows, columns = panels[0].get_gridspec().get_geometry()
    height = drawn.get_size_inches()[1]
    if columns > 1 and getattr(drawn, "stacks", True):
        _label_each(panels, columns)
        grid = GridSpec(len(panels), 1, figure=made)
        for place, axis in enumerate(panels):
            axis.set_subplotspec(grid[place])
        height = max(LOWEST_PANEL, 0.9 * height / rows) * len(panels)
    made.set_size_inches(WIDTH, height)
    _legends_in_few_columns(made)
    _break_lines(made, panels)
    return made


def _label_each(panels: list[Axes], columns: int) -> None:
    """Give each panel what it shared: its column's title and unit, its row's label, its ticks."""
    for place, axis in enumerate(panels):
        column = place % columns
        top, bottom, first = panels[column], panels[column - columns], panels[place - column]
        for where in ("left", "center"):
            axis.set_title(axis.get_title(where) or top.get_title(where), loc=where)
        axis.set_xlabel(axis.get_xlabel() or bottom.get_xlabel())
        axis.set_ylabel(axis.get_ylabel() or first.get_ylabel())
        axis.tick_params(labelbottom=True, labelleft=True)


def _legends_in_few_columns(made: Figure) -> None:
    """Give each legend two columns, or one where they are too wide for the page."""
    for legend in list(made.legends):
        # Of the panel with the most entries, as panels may lack some.
        entries = [axis.get_legend_handles_labels() for axis in made.axes]
        handles, labels = max(entries, key=lambda entry: len(entry[1]))
        size = legend.get_texts()[0].get_fontsize()
        for columns in (2, 1):
            legend.remove()
            legend = made.legend(
                handles, labels, loc="outside lower center", ncols=columns, fontsize=size
            )
            made.draw_without_rendering()
            if legend.get_window_extent().width < made.bbox.width:
                break


def _break_lines(made: Figure, panels: list[Axes]) -> None:
    # Twice: broken titles and labels leave other room to the panels.
    for _ in range(2):
        made.draw_without_rendering()
        page = made.bbox
        if made.get_suptitle():
            _break(made._suptitle, 0.98 * page.width)  # type: ignore[attr-defined]
        for axis in panels:
            box = axis.get_window_extent()
            # A single panel's title may begin left of it and end at the page's edge.
            across = page.width - box.x0 if len(panels) == 1 else box.width
            for title in (axis.title, axis._left_title):  # type: ignore[attr-defined]
                _break(title, across)
            _break(axis.xaxis.label, box.width)
            _break(axis.yaxis.label, box.height)


def _break(text: Text, room: float) -> None:
    """Break the text into as few lines as fit the room (in pixels), and about equally long ones."""
    box = text.get_window_extent()
    length = max(box.width, box.height)
    said = " ".join(text.get_text().split())
    longest = max(map(len, text.get_text().split("\n")))
    if said and length > room:
        letters = max(1, int(longest * room / length))
        lines = len(textwrap.wrap(said, letters))
        shortest = next(n for n in range(1, letters + 1) if len(textwrap.wrap(said, n)) == lines)
        text.set_text(textwrap.fill(said, shortest))
