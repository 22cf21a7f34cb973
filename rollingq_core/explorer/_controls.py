"""The controls of an explorer, and how they stand on a page."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

_LABEL = '<label style="display:block">'
_INPUT = (
    'autocomplete="off" disabled style="display:block;width:100%;'
    'box-sizing:border-box;margin:0 0 .6em">'
)


@dataclass(frozen=True)
class Slider:
    """A slider; with ``stops``, one that steps through them, and whose value is the index."""

    name: str
    title: str
    value: float
    low: float = 0
    high: float = 1
    step: float = 1
    digits: int = 0
    stops: Sequence[str] = ()

    @classmethod
    def over(cls, name: str, title: str, value: int, stops: Sequence[str]) -> "Slider":
        """Return a slider that steps through ``stops``."""
        return cls(name, title, value, high=len(stops) - 1, stops=stops)

    def html(self, text: str) -> str:
        """Return the slider for a page, ``text`` being what it says of its value."""
        return (
            f'{_LABEL}{self.title}: <span data-text="{self.name}">{text}</span>'
            f'<input type="range" name="{self.name}" min="{self.low}" max="{self.high}" '
            f'step="{self.step}" value="{self.value:g}" {_INPUT}</label>'
        )


@dataclass(frozen=True)
class Choice:
    """A list to choose from; its value is the index."""

    name: str
    title: str
    value: int
    stops: Sequence[str]

    def html(self, text: str) -> str:
        """Return the list for a page; what it says of its value stands in it."""
        options = "".join(
            f'<option value="{i}"{" selected" * (i == self.value)}>{html.escape(stop)}</option>'
            for i, stop in enumerate(self.stops)
        )
        return (
            f'{_LABEL}{self.title}: <select name="{self.name}" {_INPUT}{options}</select></label>'
        )
