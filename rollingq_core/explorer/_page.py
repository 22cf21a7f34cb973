"""What all explorers share: the page with its script, and the view with a kernel."""

import html
import json
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from rollingq_core._extras import needs
from rollingq_core.explorer._controls import Choice, Slider

if TYPE_CHECKING:
    from ipywidgets import Widget

VIEW = "application/vnd.jupyter.widget-view+json"


class Explorer(ABC):
    """A figure with two faces.

    On a page without Python it is HTML with a script of its own; with a kernel behind it, it is a
    view of ipywidgets, drawn by the package. The tests compare the two.
    """

    title: ClassVar[str]
    script: ClassVar[str]
    # Name: text with the names of other texts in braces, as :meth:`_texts` has them.
    templates: ClassVar[dict[str, str]]
    _widget: "Widget | None" = None

    @abstractmethod
    def _controls(self) -> Sequence[Slider | Choice]:
        """Return the controls as they stand at first."""

    @abstractmethod
    def _texts(self, settings: dict[str, Any]) -> dict[str, str]:
        """Return the texts by name, where the controls have these values."""

    @abstractmethod
    def _picture(self, settings: dict[str, Any]) -> str:
        """Return drawing and readout as HTML, where the controls have these values."""

    @abstractmethod
    def _data(self) -> dict[str, Any]:
        """Return what the script needs besides the templates."""

    @abstractmethod
    def _caption(self) -> str:
        """Return what to see, and from which data."""

    def widget(self) -> "Widget":
        """Return the live face, the same on each call: controls, and a picture drawn in Python.

        Raises
        ------
        ModuleNotFoundError
            ipywidgets is not installed.
        """
        if self._widget is None:
            with needs("plots"):
                self._widget = self._live()
        return self._widget

    def _live(self) -> "Widget":
        from rollingq_core.explorer._widgets import controls_over_picture

        return controls_over_picture(self._controls(), self._picture)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        faces = {"text/plain": repr(self), "text/html": self._html()}
        return faces | (view_of(self.widget()) if find_spec("ipywidgets") else {})

    def _said(self, settings: dict[str, Any]) -> dict[str, str]:
        """Return all texts by name, ready to stand in HTML."""
        texts = self._texts(settings)
        filled = {name: text.format(**texts) for name, text in self.templates.items()}
        return {name: html.escape(text) for name, text in {**texts, **filled}.items()}

    def _html(self) -> str:
        controls = self._controls()
        start = {control.name: control.value for control in controls}
        said = self._said(start)
        # Without a script the controls would be dead; the script wakes them up.
        shown = "".join(control.html(said[control.name]) for control in controls)
        data = json.dumps({**self._data(), "templates": self.templates}, separators=(",", ":"))
        return (
            '<figure class="book-figure" style="margin:0 0 1em">'
            f'<div role="group" aria-label="{self.title}" style="max-width:34rem;margin:auto">'
            f'{shown}{self._picture(start)}<script type="application/json">'
            # A name in the data must not end the script element.
            + data.replace("<", "\\u003c")
            + f"</script><script>{_script(self.script)}</script></div>"
            f"<figcaption>{self._caption()}</figcaption></figure>"
        )


def view_of(widget: "Widget") -> dict[str, dict[str, Any]]:
    """Return what asks a notebook for the view of a widget; nothing once the widget is closed.

    A notebook that has no manager of widgets passes over it, and shows the HTML beside it. Made
    here, as ipywidgets 7 has no ``_repr_mimebundle_``; its form is the same in 7 and 8.
    """
    if widget.comm is None:
        return {}
    return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}}


def table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], said: dict) -> str:
    """Return a table: column titles, and a title and names of texts for each row."""
    style = 'style="text-align:right;padding:0.3em 0 0.3em 0.6em"'
    head = "".join(f'<th scope="col" {style}>{title}</th>' for title in columns)
    body = "".join(
        f'<tr><th scope="row" style="text-align:left">{title}</th>'
        + "".join(f'<td {style} data-text="{name}">{said[name]}</td>' for name in names)
        + "</tr>"
        for title, names in rows
    )
    return (
        '<table class="table" style="font-size:0.8em">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def readout(said: dict[str, str]) -> str:
    """Return the sentence that a screen reader hears after each move."""
    return f'<p aria-live="polite" data-text="readout">{said["readout"]}</p>'


def written(value: float, digits: int, *, sign: bool = False) -> str:
    """Return a rounded number with a true minus; zero has no sign."""
    text = f"{abs(value):.{digits}f}"
    return (("−" if value < 0 else "+" if sign else "") if float(text) else "") + text


def with_error(value: float, error: float, digits: int, *, sign: bool = False) -> str:
    """Return a number and its error."""
    return f"{written(value, digits, sign=sign)} ± {error:.{digits}f}"


def _script(name: str) -> str:
    folder = files("rollingq_core.explorer")
    frame, own = (folder.joinpath(file).read_text(encoding="utf-8") for file in ("_page.js", name))
    before, after = frame.split("  // The explorer's own script stands here.\n")
    return before + textwrap.indent(own, "  ") + after
