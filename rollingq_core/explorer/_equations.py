"""An explorer whose page solves the equations itself, at any position of its sliders."""

from abc import abstractmethod
from typing import Any, ClassVar

from rollingq_core._checks import require_number
from rollingq_core.explorer._controls import Slider
from rollingq_core.explorer._page import Explorer, written


class EquationExplorer(Explorer):
    """An explorer of one function, :meth:`measure`, whose arguments are the sliders' values."""

    # Name: lowest, highest, step, title.
    sliders: ClassVar[dict[str, tuple]]
    # Name: digits after the point, whether a plus sign is written.
    digits: ClassVar[dict[str, tuple[int, bool]]]

    def __init__(self, **start: float) -> None:
        self.start = start
        for name, value in start.items():
            low, high, *_ = self.sliders[name]
            require_number(name, value, at_least=low, at_most=high)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v:g}' for k, v in self.start.items())})"

    @abstractmethod
    def measure(self, **settings: float) -> dict[str, Any]:
        """Return what the explorer shows, by name."""

    def _controls(self) -> list[Slider]:
        return [
            Slider(name, title, self.start[name], low, high, step, self.digits[name][0])
            for name, (low, high, step, title) in self.sliders.items()
        ]

    def _texts(self, settings: dict[str, float]) -> dict[str, str]:
        values = self.measure(**settings) | settings
        return {
            name: written(values[name], digits, sign=sign)
            for name, (digits, sign) in self.digits.items()
        }
