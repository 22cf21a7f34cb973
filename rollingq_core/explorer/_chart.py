"""Axes and lines of a drawing, as SVG text with one digit after the point."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Corners of markers in units of their size; a shape that has none here is drawn as the last one.
CORNERS: dict[str, list[tuple[float, float]]] = {
    "s": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "D": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    "^": [(0, -1.2), (1.2, 1), (-1.2, 1)],
    "v": [(0, 1.2), (1.2, -1), (-1.2, -1)],
    "<": [(-1.2, 0), (1, -1.2), (1, 1.2)],
    ">": [(1.2, 0), (-1, 1.2), (-1, -1.2)],
    "h": [(0, -1.2), (1, -0.6), (1, 0.6), (0, 1.2), (-1, 0.6), (-1, -0.6)],
}
# What stands back behind the data.
FAINT = 'fill="none" stroke="currentColor" stroke-opacity="0.45"'


class Scale(NamedTuple):
    """Where values stand on an axis of a given length."""

    low: float
    high: float
    step: float
    length: float

    @classmethod
    def around(cls, values: Iterable[float], length: float, steps: int = 3) -> "Scale":
        """Return a scale that holds all values, from one round number to another."""
        values = list(values)
        step = round_step(max(values) - min(values) or 1, steps)
        low, high = math.floor(min(values) / step), math.ceil(max(values) / step)
        return cls(low * step, max(high, low + 1) * step, step, length)

    def at(self, value: float) -> float:
        """Return the distance from the axis's start; what lies outside is drawn at the edge."""
        inside = min(max(value, self.low), self.high)
        return self.length * (inside - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return position and text of each tick."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        count = round((self.high - self.low) / self.step)
        values = [self.low + i * self.step for i in range(count + 1)]
        texts = [f"{value:.{digits}f}" for value in values]
        return [
            (self.at(value), text.replace("-", "−") if float(text) else text.lstrip("-"))
            for value, text in zip(values, texts, strict=True)
        ]


def round_step(span: float, steps: int) -> float:
    """Return 1, 2 or 5 times a power of ten, so that ``span`` has about so many steps."""
    raw = span / steps
    base = 10.0 ** math.floor(math.log10(raw))
    return base * next(factor for factor in (1, 2, 5, 10) if factor * base >= raw * (1 - 1e-9))


def line(places: Iterable[tuple[float, float]]) -> str:
    """Return the path data of a line through the places."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def marker(shape: str, x: float, y: float, size: float = 3.6) -> str:
    """Return the path data of a marker, its shape named as in matplotlib."""
    if shape == "o":
        arc = f"a{size} {size} 0 1 0"
        return f"M{x - size:.1f} {y:.1f}{arc} {2 * size} 0{arc} {-2 * size} 0Z"
    corners = CORNERS.get(shape, CORNERS["h"])
    return line((x + size * a, y + size * b) for a, b in corners) + "Z"


def frame(
    x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]], *sizes: float
) -> str:
    """Return the axes of a panel, its data area at the origin, ``sizes`` its width and height."""
    width, height = sizes
    marks = "".join(f"M{x:.1f} {height}v4" for x, _ in x_ticks)
    marks += "".join(f"M0 {height - y:.1f}h-4" for y, _ in y_ticks)
    words = "".join(f'<text x="{x:.1f}" y="{height + 15}">{text}</text>' for x, text in x_ticks)
    words += "".join(
        f'<text x="-7" y="{height - y + 4:.1f}" text-anchor="end">{text}</text>'
        for y, text in y_ticks
    )
    return f'<path d="M0 0V{height}H{width}{marks}" {FAINT}/>{words}'
