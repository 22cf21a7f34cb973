"""The four panels of the training map: curves over epochs, and the ticks of rotations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rollingq_core.explorer._chart import FAINT, Scale, frame, line, round_step
from rollingq_core.explorer._grid import CURVES, Grid, Point
from rollingq_core.plots.style import METHODS

# Lengths in the drawing's own unit: a panel, and where the four of them are.
WIDTH, HEIGHT, TICK = 152, 92, 10
PLACES = [(34, 48), (240, 48), (34, 196), (240, 196)]
ROLLING = METHODS["mt+rollingq"]["color"]
VANILLA = f'{FAINT} stroke-width="1.8" stroke-dasharray="5 3"'
MEAN = f'fill="none" stroke="{ROLLING}" stroke-width="2"'
BAND = f'fill="{ROLLING}" fill-opacity="0.3"'
MARK = f'fill="none" stroke="{ROLLING}" stroke-width="2.5"'
OWN = 'fill="none" stroke="currentColor" stroke-width="2"'
EARLIER = 'fill="none" stroke="currentColor" stroke-opacity="0.35"'


class Panels:
    """Draws the points of a grid; all points share the axes."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.scales = {
            name: Scale.around((v for run in grid.runs for v in curve(run)), HEIGHT)
            for name, (_, _, curve) in CURVES.items()
        }

    def x(self, epochs: int) -> list[float]:
        """Return where the first ``epochs`` epochs stand."""
        return [WIDTH * epoch / max(1, self.grid.epochs - 1) for epoch in range(epochs)]

    def heights(self, point: Point) -> dict[str, list[list[int]]]:
        """Return each curve's mean, and mean plus and minus sd, from its panel's top in tenths."""
        return {
            name: [
                [round(10 * (HEIGHT - self.scales[name].at(value))) for value in values]
                for values in (means, means + deviations, means - deviations)
            ]
            for name, (means, deviations) in point.curves.items()
        }

    def marks(self, rotations: Iterable[float]) -> str:
        """Return the path of the ticks, one for each epoch after which some seeds turned."""
        places = zip(self.x(self.grid.epochs), rotations, strict=True)
        return "".join(
            f"M{x:.1f} {HEIGHT}v{-TICK * fraction:.1f}" for x, fraction in places if fraction
        )

    def _trace(self, name: str, values: Iterable[float]) -> str:
        """Return the path of a curve, as far as it has come."""
        heights = [HEIGHT - self.scales[name].at(v) for v in values][: self.grid.epochs]
        return line(zip(self.x(len(heights)), heights, strict=True)) if heights else ""

    def drawing(
        self, settings: dict[str, int], label: str, runs: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """Return the four panels at a grid point, live runs over it (the newest last)."""
        point = self.grid.point(**settings)
        heights, marks = self.heights(point), self.marks(point.rotations)
        x, panels = self.x(self.grid.epochs), ""
        step = max(1, int(round_step(self.grid.epochs, 3)))
        x_ticks = [(x[e - 1], str(e)) for e in range(step, self.grid.epochs + 1, step)]
        for (name, (title, _, curve)), (left, top) in zip(CURVES.items(), PLACES, strict=True):
            middle, upper, lower = (
                [(a, y / 10) for a, y in zip(x, ys, strict=True)] for ys in heights[name]
            )
            vanilla = self._trace(name, self.grid.vanilla.curves[name][0])
            own = "".join(
                f'<path d="{self._trace(name, curve(run) if run else [])}" {style}/>'
                for run, style in zip(runs, [EARLIER] * (len(runs) - 1) + [OWN], strict=bool(runs))
            )
            panels += (
                f'<g transform="translate({left} {top})">'
                f'<text x="-28" y="-13" text-anchor="start">{title}</text>'
                f"{frame(x_ticks, self.scales[name].ticks(), WIDTH, HEIGHT)}"
                f'<path data-path="band-{name}" d="{line(upper + lower[::-1])}Z" {BAND}/>'
                f'<path d="{vanilla}" {VANILLA}/>'
                f'<path data-path="mean-{name}" d="{line(middle)}" {MEAN}/>'
                f'<path data-path="rotations" d="{marks}" {MARK}/>{own}</g>'
            )
        return (
            f'<svg role="img" aria-label="{label}" viewBox="0 0 400 326" font-size="12" '
            'fill="currentColor" text-anchor="middle" '
            f'style="display:block;width:100%;max-width:34rem;height:auto">{_legend(bool(runs))}{panels}'
            '<text x="110" y="324">epoch</text><text x="316" y="324">epoch</text></svg>'
        )


def _legend(own: bool) -> str:
    entries = [("RollingQ", MEAN, 34), ("vanilla", VANILLA, 136)] + [("your run", OWN, 230)] * own
    return "".join(
        f'<path d="M{x} 10h24" {style}/>'
        f'<text x="{x + 30}" y="14" text-anchor="start">{title}</text>'
        for title, style, x in entries
    )
