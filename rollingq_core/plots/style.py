"""One look for all figures: colours with fixed meanings, and a figure that carries its caption."""

import hashlib
import html
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

# Okabe and Ito's colours, which readers with any colour vision can tell apart.
COLOURS = {
    "audio": "#D55E00",
    "visual": "#0072B2",
    "text": "#009E73",
    "query": "#CC79A7",
    "anchor": "#E69F00",
    "noise": "#7F7F7F",
}
# Stands for the page's own text colour until the figure is written out.
INK = "#010203"
# Colour is never alone: each method also has a line style and a marker of its own.
METHODS = {
    "vanilla": {"label": "vanilla", "color": INK, "linestyle": "--", "marker": "o"},
    "rollingq": {"label": "RollingQ", "color": "#CC79A7", "linestyle": "-", "marker": "s"},
    "random_matched": {
        "label": "random, same angle",
        "color": "#56B4E9",
        "linestyle": ":",
        "marker": "^",
    },
    "random_free": {
        "label": "random, free",
        "color": "#56B4E9",
        "linestyle": (0, (1, 4)),
        "marker": "v",
    },
    "uniform": {"label": "uniform", "color": INK, "linestyle": ":", "marker": "D"},
}
WIDTH = 6.4

_RC = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}


@contextmanager
def figure(rows: int = 1, columns: int = 1, height: float = 3.0, **options) -> Iterator[tuple]:
    """Make a figure and its axes in the book's style, as wide as the text column.

    Parameters
    ----------
    rows, columns
        Number of panels.
    height
        Height of the figure in inches.
    **options
        Passed to ``matplotlib.pyplot.subplots``.
    """
    with plt.rc_context(_RC):
        made, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), **options)
        # A notebook would otherwise show the figure a second time, without its caption.
        plt.close(made)
        made.get_layout_engine().set(w_pad=0.06, h_pad=0.08)
        yield made, axes
        if made.get_suptitle():
            made.suptitle(made.get_suptitle(), x=0.01, horizontalalignment="left", fontsize=11)


class BookFigure:
    """A drawn figure with its caption and a text for those who can't see it.

    On a page it is an inline SVG whose text takes the page's colour, so that it reads on light and
    dark grounds.

    Parameters
    ----------
    drawn
        The matplotlib figure.
    caption
        What to see, and from which data.
    alt
        What the figure shows, in one or two sentences.
    """

    def __init__(self, drawn: Figure, caption: str, alt: str) -> None:
        if not caption.strip() or not alt.strip():
            raise ValueError("caption, alt: got an empty text, expected a sentence in each")
        self.drawn, self.caption, self.alt = drawn, caption, alt

    def __repr__(self) -> str:
        return f"BookFigure({self.alt!r})"

    def svg(self) -> str:
        """Return the figure as an SVG element; the same figure gives the same text."""
        buffer = io.StringIO()
        salt = hashlib.sha256(self.alt.encode()).hexdigest()[:10]
        with plt.rc_context({**_RC, "svg.hashsalt": salt}):
            self.drawn.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
        text = buffer.getvalue()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        # Two figures on a page must not share an id.
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>f{salt}-", text)
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
        label = html.escape(self.alt, quote=True)
        # On a phone the picture scrolls in its own box rather than shrink past reading.
        style = "display:block;min-width:32rem;max-width:100%;height:auto;margin:auto"
        return text.replace("<svg", f'<svg role="img" aria-label="{label}" style="{style}"', 1)

    def _repr_html_(self) -> str:
        return (
            '<figure class="book-figure" style="margin:0 0 1em">'
            f'<div style="overflow-x:auto">{self.svg()}</div>'
            f"<figcaption>{html.escape(self.caption)}</figcaption></figure>"
        )


class Table:
    """A small table with a caption, numbers to the right.

    Parameters
    ----------
    header
        Column titles; the first column holds row titles.
    rows
        Cells as text.
    caption
        What the table shows, and from which data.
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
        wrong = [row for row in rows if len(row) != len(header)]
        if wrong:
            raise ValueError(f"rows: got a row of {len(wrong[0])} cells, expected {len(header)}")
        self.header, self.rows, self.caption = header, rows, caption

    def __repr__(self) -> str:
        lines = [list(self.header), *map(list, self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            first, *others = map(html.escape, cells)
            scope = ' scope="col"' if tag == "th" else ""
            style = 'style="text-align:right;white-space:nowrap"'
            tail = "".join(f"<{tag}{scope} {style}>{cell}</{tag}>" for cell in others)
            head = "col" if scope else "row"
            return f'<tr><th scope="{head}" style="text-align:left">{first}</th>{tail}</tr>'

        body = "".join(row(cells, "td") for cells in self.rows)
        return (
            '<div class="book-table" style="overflow-x:auto"><table class="table">'
            f'<caption style="caption-side:bottom">{html.escape(self.caption)}</caption>'
            f"<thead>{row(self.header, 'th')}</thead><tbody>{body}</tbody></table></div>"
        )
