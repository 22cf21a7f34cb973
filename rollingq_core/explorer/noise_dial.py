"""The noise dial: accuracy and attention of each method while noise is mixed into the audio."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from rollingq_core._checks import require_choice
from rollingq_core.explorer._chart import Scale, frame, line, marker
from rollingq_core.explorer._controls import Choice, Slider
from rollingq_core.explorer._page import Explorer, readout, table, with_error
from rollingq_core.plots.style import INK, METHODS
from rollingq_core.statistics import mean_interval, of_method, paired_difference

# Lengths in the drawing's own unit: the panel of accuracies, and the rows of shares below it.
LEFT, TOP, WIDTH, HEIGHT = 44, 26, 346, 150
ROWS, STEP, START, SPAN = 236, 22, 166, 224
# Room at the ends of the axis of levels.
EDGE = 14
MARK = 'fill="none" stroke="currentColor" stroke-opacity="0.15" stroke-width="24"'
# How far apart two methods stand at the same level, so that their bars don't hide each other.
APART = 3
DASHES = {"-": "none", "--": "5 3", ":": "1.5 2.5", "-.": "7 2.5 1.5 2.5"}


class NoiseDial(Explorer):
    """Accuracy and audio's attention share of each method, with a slider for the noise level.

    The slider steps through the levels that were measured. With several records there is also a
    list to choose one from.

    Parameters
    ----------
    record
        A record of the comparison, or several by name, with the same ``levels`` and methods. Each
        run has ``method``, ``seed``, ``accuracy`` (a number a level) and ``shares`` (audio's mean
        share of attention, a number a level).
    level
        Where the slider stands at first.

    Raises
    ------
    ValueError
        No such level, runs without ``shares``, or records of other levels or methods.
    """

    title: ClassVar[str] = "Noise dial"
    script: ClassVar[str] = "noise_dial.js"
    templates: ClassVar[dict[str, str]] = {}

    def __init__(self, record: Mapping[str, Any], level: float = 0) -> None:
        several = {} if "runs" in record else dict(record)
        self.names = list(several)
        self.records = list(several.values()) or [record]
        self.levels = self.records[0]["levels"]
        self.methods = _methods(self.records[0])
        for record in self.records:
            own = (record["levels"], _methods(record))
            if own != (self.levels, self.methods):
                expected = f"expected {self.levels} and {self.methods} as in the first record"
                raise ValueError(f"record: got levels and methods {own}, {expected}")
            if any(len(run.get("shares", ())) != len(self.levels) for run in record["runs"]):
                raise ValueError("record: got runs without 'shares', expected one a level")
        if not {"mt", "mt+rollingq"} <= set(self.methods):
            raise ValueError(f"record: got {self.methods}, expected also 'mt' and 'mt+rollingq'")
        require_choice("level", level, self.levels)
        self.level = self.levels.index(level)
        self._accuracy, self._share = (
            [self._intervals(record["runs"], name) for record in self.records]
            for name in ("accuracy", "shares")
        )
        edges = [
            100 * (mean + side * half)
            for intervals in self._accuracy
            for row in intervals.values()
            for mean, half in row
            for side in (-1, 1)
        ]
        self._heights = Scale.around(edges, HEIGHT, steps=4)
        self._places = Scale(self.levels[0], self.levels[-1], 1, WIDTH - 2 * EDGE)

    def __repr__(self) -> str:
        sizes = {len(record["seeds"]) for record in self.records}
        of = f" of {', '.join(self.names)}" if self.names else ""
        return f"NoiseDial({len(self.levels)} levels, {min(sizes)} seeds{of})"

    def _intervals(
        self, runs: Sequence[Mapping[str, Any]], name: str
    ) -> dict[str, list[tuple[float, float]]]:
        """Return mean and 95 % half width at each level, by method."""
        return {
            method: [
                mean_interval(column)
                for column in zip(*(run[name] for run in of_method(runs, method)), strict=True)
            ]
            for method in self.methods
        }

    def _controls(self) -> list[Slider | Choice]:
        stops = [f"{level:g}" for level in self.levels]
        slider = Slider.over("level", "noise level in the audio", self.level, stops)
        return [*([Choice("record", "data", 0, self.names)] if self.names else []), slider]

    def _texts(self, settings: dict[str, int]) -> dict[str, str]:
        level, index = settings["level"], settings.get("record", 0)
        texts = {"level": f"{self.levels[level]:g}"}
        if self.names:
            texts["record"] = self.names[index]
        for method in self.methods:
            mean, half = self._accuracy[index][method][level]
            texts[f"accuracy_{method}"] = with_error(100 * mean, 100 * half, 1)
            texts[f"share_{method}"] = with_error(*self._share[index][method][level], 2)
        runs = self.records[index]["runs"]
        mean, half = paired_difference(runs, "mt+rollingq", "mt", _at("accuracy", level))
        difference = with_error(100 * mean, 100 * half, 1, sign=True)
        verdict = "RollingQ is better" if mean > 0 else "vanilla is better"
        if abs(mean) <= half:
            verdict = "the interval holds 0, so no difference is shown"
        texts["readout"] = (
            f"At noise level {texts['level']}, RollingQ − vanilla is {difference} points of test "
            f"accuracy (paired by seed, 95 % interval): {verdict}."
        )
        values = ", ".join(
            f"{METHODS[m]['label']} {texts[f'accuracy_{m}']} % and {texts[f'share_{m}']}"
            for m in self.methods
        )
        texts["label"] = (
            "Above, curves of test accuracy over the noise level, a mark at level "
            f"{texts['level']}. Below, audio’s share of attention at this level. Accuracy and "
            f"share: {values}."
        )
        return texts

    def _data(self) -> dict[str, Any]:
        chosen = range(len(self.records))
        settings = [
            [{"level": level, "record": index} for level in range(len(self.levels))]
            for index in chosen
        ]
        return {
            "curves": [self._curves(index) for index in chosen],
            "states": [
                [{"paths": self._paths(state), "texts": self._texts(state)} for state in row]
                for row in settings
            ],
        }

    def _caption(self) -> str:
        seeds = min(len(record["seeds"]) for record in self.records)
        return (
            "Above: test accuracy while noise is mixed into the audio, at the measured levels. "
            "Below: the share of attention that audio keeps at the chosen level. Points are means "
            f"over {seeds} seeds, bars and ± their 95 % intervals."
        )

    def _picture(self, settings: dict[str, int]) -> str:
        said = self._said(settings)
        paths = self._curves(settings.get("record", 0)) | self._paths(settings)
        rows = [
            (METHODS[method]["label"], [f"accuracy_{method}", f"share_{method}"])
            for method in self.methods
        ]
        shown = table(["test accuracy, %", "audio’s share"], rows, said)
        return self._drawing(paths, said["label"]) + readout(said) + shown

    def _curves(self, record: int) -> dict[str, str]:
        """Return the paths of accuracies over all levels."""
        paths = {}
        for k, method in enumerate(self.methods):
            shift = APART * (k - (len(self.methods) - 1) / 2)
            spots = [
                (
                    self._place(level) + shift,
                    *(self._height(mean + s * half) for s in (0, -1, 1)),
                )
                for level, (mean, half) in zip(
                    self.levels, self._accuracy[record][method], strict=True
                )
            ]
            paths[f"line-{method}"] = line((x, y) for x, y, *_ in spots)
            paths[f"bars-{method}"] = "".join(
                f"M{x:.1f} {low:.1f}V{high:.1f}" for x, _, low, high in spots
            )
            shape = METHODS[method]["marker"]
            paths[f"dots-{method}"] = "".join(marker(shape, x, y) for x, y, *_ in spots)
        return paths

    def _place(self, level: float) -> float:
        return EDGE + self._places.at(level)

    def _height(self, accuracy: float) -> float:
        return HEIGHT - self._heights.at(100 * accuracy)

    def _paths(self, settings: dict[str, int]) -> dict[str, str]:
        """Return the paths that depend on the level."""
        level, record = settings["level"], settings.get("record", 0)
        paths = {"level": f"M{self._place(self.levels[level]):.1f} 0V{HEIGHT}"}
        scale = Scale(0, 1, 0.5, SPAN)
        for k, method in enumerate(self.methods):
            mean, half = self._share[record][method][level]
            left, middle, right = (scale.at(mean + side * half) for side in (-1, 0, 1))
            paths[f"range-{method}"] = f"M{left:.1f} {STEP * k}H{right:.1f}"
            paths[f"share-{method}"] = marker(METHODS[method]["marker"], middle, STEP * k)
        return paths

    def _drawing(self, paths: dict[str, str], label: str) -> str:
        above = below = names = ""
        for k, method in enumerate(self.methods):
            colour = METHODS[method]["color"].replace(INK, "currentColor")
            stroke = f'fill="none" stroke="{colour}" stroke-width="2"'
            dashed = f'{stroke} stroke-dasharray="{_dashes(METHODS[method]["linestyle"])}"'

            def path(name: str, look: str, method: str = method) -> str:
                name = f"{name}-{method}"
                return f'<path data-path="{name}" d="{paths[name]}" {look}/>'

            above += path("line", dashed) + path("bars", stroke) + path("dots", f'fill="{colour}"')
            below += path("range", stroke) + path("share", f'fill="{colour}"')
            y = ROWS + STEP * k
            names += (
                f'<path d="M4 {y}h26" {dashed}/>'
                f'<path d="{marker(METHODS[method]["marker"], 17, y)}" fill="{colour}"/>'
                f'<text x="38" y="{y + 4}" text-anchor="start">{METHODS[method]["label"]}</text>'
            )
        levels = [(self._place(level), f"{level:g}") for level in self.levels]
        height = STEP * (len(self.methods) - 1) + 14
        shares = frame(Scale(0, 1, 0.5, SPAN).ticks(), [], SPAN, height)
        bottom = ROWS + height + 32
        return (
            f'<svg role="img" aria-label="{label}" viewBox="0 0 400 {bottom + 4}" '
            'font-size="12" fill="currentColor" text-anchor="middle" '
            'style="display:block;width:100%;max-width:34rem;height:auto">'
            '<text x="4" y="12" text-anchor="start">test accuracy, %</text>'
            f'<g transform="translate({LEFT} {TOP})">'
            f"{frame(levels, self._heights.ticks(), WIDTH, HEIGHT)}"
            f'<path data-path="level" d="{paths["level"]}" {MARK}/>{above}</g>'
            f'<text x="{LEFT + WIDTH / 2:g}" y="{TOP + HEIGHT + 30}">noise level</text>{names}'
            f'<g transform="translate({START} {ROWS})">{shares}{below}</g>'
            f'<text x="{START + SPAN / 2:g}" y="{bottom}">audio’s attention share</text>'
            "</svg>"
        )


def _methods(record: Mapping[str, Any]) -> list[str]:
    trained = {run["method"] for run in record["runs"]}
    return [method for method in METHODS if method in trained]


def _dashes(linestyle: str | tuple[int, tuple[float, ...]]) -> str:
    """Return matplotlib's line style, a name or an offset and lengths, as SVG has it."""
    if isinstance(linestyle, str):
        return DASHES[linestyle]
    return " ".join(f"{length:g}" for length in linestyle[1])


def _at(name: str, level: int) -> Callable[[Mapping[str, Any]], float]:
    return lambda run: run[name][level]
