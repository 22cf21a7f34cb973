"""One look for all figures: colours with fixed meanings, and a figure that carries its caption."""

import hashlib
import html
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rollingq_core import methods
from rollingq_core.plots.phone import for_phone

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
LINES: dict[str, dict[str, Any]] = {
    "mt": {"color": INK, "linestyle": "--", "marker": "o"},
    "mt+rollingq": {"color": "#CC79A7", "linestyle": "-", "marker": "s"},
    "mt+random_matched": {"color": "#56B4E9", "linestyle": ":", "marker": "^"},
    "mt+random_free": {"color": "#56B4E9", "linestyle": (0, (1, 4)), "marker": "v"},
    "mt+away": {"color": "#E69F00", "linestyle": (0, (4, 2)), "marker": "$a$"},
    "mt+midpoint": {"color": "#E69F00", "linestyle": (0, (2, 1)), "marker": "$m$"},
    "mt+norm_matched": {"color": "#009E73", "linestyle": (0, (4, 1, 1, 1)), "marker": "$n$"},
    "mt+rollingq_restored": {"color": "#CC79A7", "linestyle": (0, (4, 1, 1, 1)), "marker": "$v$"},
    "mt+temperature": {"color": "#009E73", "linestyle": (0, (2, 3)), "marker": "$t$"},
    "mt+modality_dropout": {"color": "#0072B2", "linestyle": (0, (8, 2)), "marker": "$d$"},
    "uniform": {"color": INK, "linestyle": ":", "marker": "D"},
    "unimodal-audio": {"color": "#D55E00", "linestyle": (0, (3, 1, 1, 1)), "marker": "<"},
    "unimodal-visual": {"color": "#0072B2", "linestyle": (0, (3, 1, 1, 1)), "marker": ">"},
    "unimodal-text": {"color": "#009E73", "linestyle": (0, (3, 1, 1, 1)), "marker": "8"},
    "concat": {"color": "#7F7F7F", "linestyle": "-.", "marker": "P"},
    "ogm": {"color": "#7F7F7F", "linestyle": (0, (5, 1)), "marker": "X"},
    "ogm-ge": {"color": "#7F7F7F", "linestyle": (0, (5, 3)), "marker": "x"},
    "pmr": {"color": "#7F7F7F", "linestyle": (0, (1, 1)), "marker": "*"},
    # Deeper fusions have a letter each; a small one is a control's.
    "mt2": {"color": INK, "linestyle": (0, (6, 2)), "marker": "$2$"},
    "mt2+rollingq": {"color": "#CC79A7", "linestyle": (0, (12, 1)), "marker": "$Z$"},
    "mt2+progressive": {"color": INK, "linestyle": (0, (2, 2)), "marker": "$1$"},
    "mt2+random_matched": {"color": "#56B4E9", "linestyle": (0, (1, 2)), "marker": "$z$"},
    "mult": {"color": INK, "linestyle": (0, (6, 2, 1, 2)), "marker": "$M$"},
    "mult-joint": {"color": INK, "linestyle": (0, (3, 2, 1, 2)), "marker": "$j$"},
    "mult+rollingq": {"color": "#CC79A7", "linestyle": (0, (12, 1, 1, 1)), "marker": "$U$"},
    "mult+random_matched": {"color": "#56B4E9", "linestyle": (0, (1, 3)), "marker": "$u$"},
    "mbt": {"color": INK, "linestyle": (0, (6, 2, 1, 2, 1, 2)), "marker": "$B$"},
    "jmt": {"color": INK, "linestyle": (0, (6, 1)), "marker": "$J$"},
    "mmml": {"color": INK, "linestyle": (0, (6, 3)), "marker": "$L$"},
    "mmml-joint": {"color": INK, "linestyle": (0, (3, 3)), "marker": "$i$"},
    "mmml+rollingq": {"color": "#CC79A7", "linestyle": (0, (12, 2)), "marker": "$R$"},
    "mmml+random_matched": {"color": "#56B4E9", "linestyle": (0, (1, 5)), "marker": "$r$"},
}
# Nor is it where modalities are drawn.
MODALITIES: dict[str, dict[str, str]] = {
    "audio": {"color": COLOURS["audio"], "linestyle": "-", "marker": "o", "hatch": ""},
    "visual": {"color": COLOURS["visual"], "linestyle": "--", "marker": "s", "hatch": "////"},
    "text": {"color": COLOURS["text"], "linestyle": ":", "marker": "^", "hatch": "xxxx"},
}
FURTHER = {"color": "#56B4E9", "linestyle": "-.", "marker": "D", "hatch": "++++"}
PLAIN: dict[str, Any] = {"color": "#7F7F7F", "linestyle": "-", "marker": "h"}


class _Looks(Mapping):
    """How each method is drawn and called: a new one in grey, until it has a line here."""

    def __getitem__(self, method: str) -> dict[str, Any]:
        return {"label": methods.METHODS[method].label} | LINES.get(method, PLAIN)

    def __iter__(self) -> Iterator[str]:
        return iter(methods.METHODS)

    def __len__(self) -> int:
        return len(methods.METHODS)


METHODS = _Looks()


def looks_of(modalities: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return how each modality is drawn.

    Those that the book knows look as they always do. The others, in their order, take the looks of
    those that are not among them.
    """
    names = list(dict.fromkeys(modalities))
    free = iter([look for name, look in MODALITIES.items() if name not in names])
    return {name: MODALITIES.get(name) or next(free, FURTHER) for name in names}


def colour_of(modality: str) -> str:
    """Return the colour of a modality that is drawn by itself."""
    return looks_of([modality])[modality]["color"]


WIDTH = 6.4
# A figure has two faces; which of them is seen depends on the width of the column it stands in.
FACES = (
    "<style>.book-figure>div{container-type:inline-size}"
    ".book-figure svg.wide,.book-figure svg.narrow{width:100%;height:auto;margin:auto}"
    ".book-figure svg.wide{display:block;max-width:45rem}"
    ".book-figure svg.narrow{display:none;max-width:26rem}"
    "@container (max-width:32rem){"
    ".book-figure svg.wide{display:none}.book-figure svg.narrow{display:block}}</style>"
)

# matplotlib's type of the keys is a list of all that it knows.
_RC: dict[Any, Any] = {
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
NUMBER = re.compile(r"-?\d+\.\d+")


@contextmanager
def figure(
    rows: int = 1, columns: int = 1, height: float = 3.0, *, stacks: bool = True, **options
) -> Iterator[tuple]:
    """Make a figure and its axes in the book's style, as wide as the text column.

    Parameters
    ----------
    rows, columns
        Number of panels.
    height
        Height of the figure in inches.
    stacks
        Whether a phone shows the panels one below another, or side by side as here.
    **options
        Passed to ``matplotlib.pyplot.subplots``.
    """
    with plt.rc_context(_RC):
        made, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), **options)
        # A notebook would otherwise show the figure a second time, without its caption.
        plt.close(made)
        made.stacks = stacks
        made.get_layout_engine().set(w_pad=0.06, h_pad=0.08)
        yield made, axes
        if made.get_suptitle():
            made.suptitle(made.get_suptitle(), x=0.01, horizontalalignment="left", fontsize=11)


def legend_below(made: Figure, axis: Axes, columns: int) -> None:
    """Put one legend below all panels; ``axis`` is one that has all its lines."""
    handles, labels = axis.get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)


class BookFigure:
    """A drawn figure with its caption and a text for those who can't see it.

    On a page it is an inline SVG whose text takes the page's colour, so that it reads on light and
    dark grounds. Where the column is narrow, as on a phone, a second drawing takes its place, with
    the panels one below another.

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
        return self._written(self.drawn, "wide")

    def _written(self, drawn: Figure, face: str) -> str:
        buffer = io.StringIO()
        # Two figures on a page, and a figure's two faces, must not share an id.
        salt = hashlib.sha256(f"{self.alt}{face}".encode()).hexdigest()[:8]
        with plt.rc_context({**_RC, "svg.hashsalt": salt}):
            drawn.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
        text = buffer.getvalue()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>f{salt}-", _shortened(text))
        label = html.escape(self.alt, quote=True)
        return text.replace("<svg", f'<svg role="img" aria-label="{label}" class="{face}"', 1)

    def _repr_html_(self) -> str:
        with plt.rc_context(_RC):
            narrow = for_phone(self.drawn)
        faces = self.svg() + self._written(narrow, "narrow")
        return (
            f'<figure class="book-figure" style="margin:0 0 1em">{FACES}<div>{faces}</div>'
            f"<figcaption>{html.escape(self.caption)}</figcaption></figure>"
        )


def _shortened(svg: str) -> str:
    """Return the same picture in fewer letters: no remarks, a tenth of a point at most."""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", svg)
    names = dict.fromkeys(re.findall(r'\bid="([a-z][0-9a-f]{10})"', svg))
    short = {name: f"{name[0]}{number}" for number, name in enumerate(names)}
    svg = re.sub(r"\b[a-z][0-9a-f]{10}\b", lambda match: short.get(match[0], match[0]), svg)
    return re.sub(
        r'\b([dxy])="([^"]*)"',
        lambda match: f'{match[1]}="{re.sub(NUMBER, _rounded, _joined(match[2]))}"',
        svg,
    )


def _joined(path: str) -> str:
    """Return a path on one line: a notebook's file takes a dozen letters to break one."""
    return re.sub(r"\s*\n", "", path)


def _rounded(match: re.Match) -> str:
    return f"{float(match[0]):.1f}".removesuffix(".0")
