"""The geometry explorer: one turn of the query in the plane, with sliders to move.

On a page without Python its script computes the equations.
"""

import math
from typing import Any, ClassVar

import torch

from rollingq_core._checks import require_integer, require_number
from rollingq_core.air import attention_imbalance_rate, modality_cosines
from rollingq_core.explorer._equations import EquationExplorer
from rollingq_core.explorer._page import readout, table
from rollingq_core.plots.style import COLOURS
from rollingq_core.rotation import anchor_weight, plane_rotation, rebalance_anchor

# Name: lowest, highest, step, title.
SLIDERS = {
    "lean": (-180, 180, 1, "query’s lean toward audio"),
    "rho": (0.1, 10, 0.1, "strength ρ"),
    "spread": (30, 150, 5, "angle between the keys"),
}
# Name: digits after the point, whether a plus sign is written.
DIGITS = {
    "lean": (0, False),
    "rho": (1, False),
    "spread": (0, False),
    "turn": (0, False),
    "alpha": (2, False),
    "air": (2, True),
    "air_after": (2, True),
    "audio": (2, True),
    "audio_after": (2, True),
    "visual": (2, True),
    "visual_after": (2, True),
    "share": (2, False),
    "share_after": (2, False),
}
TEMPLATES = {
    "lean": "{lean}°, AIR {air}",
    "spread": "{spread}°",
    "readout": "AIR {air} gives α = {alpha}: the query turns by {turn}°. "
    "Audio’s share of attention goes from {share} to {share_after}.",
    "label": "In a plane, an audio key on the right and a visual key on the left, {spread} degrees "
    "apart. The query leans {lean} degrees from their middle toward audio and turns by {turn} "
    "degrees onto the anchor. Two bars: audio’s share of attention before, {share}, and after, "
    "{share_after}.",
}
# Lengths in the drawing's own unit.
KEY, QUERY, ARC, BAR = 112, 80, 34, 250


class GeometryExplorer(EquationExplorer):
    """The turn of a query between two keys, with sliders for its lean and for rho.

    Query and keys lie in the plane, d = 2. All tokens of a modality have the same key, so that the
    attention shares follow exactly from the cosines (Eq. 1). As the last value of a notebook cell
    it shows itself.

    Parameters
    ----------
    lean, rho, spread
        Where the sliders stand at first: the query's angle from the middle of the keys toward
        audio, in degrees; the strength of Eq. 11; the angle between the keys, in degrees.
    query_norm, key_norm
        Lengths of the query and of the keys.
    tokens
        Number of audio tokens and of visual tokens.

    Raises
    ------
    ValueError
        A value outside its slider's range, a length not above 0, or counts that are not two
        integers of at least 1.
    """

    title: ClassVar[str] = "Geometry explorer"
    script: ClassVar[str] = "geometry.js"
    templates: ClassVar[dict[str, str]] = TEMPLATES
    sliders: ClassVar[dict[str, tuple]] = SLIDERS
    digits: ClassVar[dict[str, tuple[int, bool]]] = DIGITS

    def __init__(
        self,
        lean: float = 30,
        rho: float = 1,
        spread: float = 90,
        *,
        query_norm: float = 2,
        key_norm: float = 2,
        tokens: tuple[int, int] = (7, 8),
    ) -> None:
        super().__init__(lean=lean, rho=rho, spread=spread)
        self.query_norm = require_number("query_norm", query_norm, above=0)
        self.key_norm = require_number("key_norm", key_norm, above=0)
        self.tokens = tuple(require_integer("tokens", n, at_least=1) for n in tokens)
        if len(self.tokens) != 2:
            raise ValueError(f"tokens: got {tokens!r}, expected audio's number and visual's")

    def measure(  # type: ignore[override]  # its arguments are its sliders
        self, lean: float, rho: float, spread: float
    ) -> dict[str, float]:
        """Return what the explorer shows, by name; names that end in ``_after`` are after the turn.

        ``audio`` and ``visual`` are cosines, ``share`` is audio's attention mass, ``turn`` and
        ``toward_*`` (directions, from the horizontal) are in degrees.
        """
        keys = torch.stack([_row(90 + s * spread / 2, self.key_norm) for s in (-1, 1)])
        query = _row(90 - lean, self.query_norm)
        air = float(attention_imbalance_rate(query, keys[:1], keys[1:]))
        alpha = float(anchor_weight(air, rho))
        turn = plane_rotation(query, rebalance_anchor(query, keys[0], keys[1], alpha))
        turned = turn.apply(query)
        values = {"air": air, "alpha": alpha, "turn": math.degrees(turn.angle)}
        counts = torch.tensor(self.tokens, dtype=torch.float64)
        for suffix, q in (("", query), ("_after", turned)):
            values["audio" + suffix], values["visual" + suffix] = modality_cosines(
                q, keys.unsqueeze(0)
            )[0].tolist()
            # A modality of n equal tokens weighs as one token whose score is larger by log n.
            scores = keys @ q / math.sqrt(2) + counts.log()
            values["share" + suffix] = float(scores.softmax(0)[0])
        values["air_after"] = values["audio_after"] - values["visual_after"]
        rows = {"audio": keys[0], "visual": keys[1], "query": query, "anchor": turned}
        for name, (x, y) in rows.items():
            values["toward_" + name] = math.degrees(math.atan2(y, x))
        cross = float(query[0] * turned[1] - query[1] * turned[0]) / self.query_norm**2
        return values | {"side": -1 if cross < -1e-9 else 1}

    def _picture(self, settings: dict[str, float]) -> str:
        said = self._said(settings)
        return _drawing(self.measure(**settings), said["label"]) + readout(said) + _table(said)

    def _data(self) -> dict[str, Any]:
        return {
            "query_norm": self.query_norm,
            "key_norm": self.key_norm,
            "tokens": self.tokens,
            "digits": DIGITS,
            "arc": ARC,
            "bar": BAR,
        }

    def _caption(self) -> str:
        audio, visual = self.tokens
        return (
            "Orange: audio, blue: visual. The query q (solid) turns to qR (dashed): onto the "
            "anchor (ring), at the same length. Computed for d = 2, "
            f"|q| = {self.query_norm:g}, keys of length {self.key_norm:g}, {audio} audio and "
            f"{visual} visual tokens."
        )


def _row(degrees: float, length: float) -> torch.Tensor:
    angle = math.radians(degrees)
    return torch.tensor([length * math.cos(angle), length * math.sin(angle)], dtype=torch.float64)


def _at(degrees: float, length: float) -> str:
    # Adding 0 turns a negative zero into zero.
    x, y = (round(float(c), 2) + 0 for c in _row(-degrees, length))
    return f"{x:.2f} {y:.2f}"


def _drawing(values: dict[str, float], label: str) -> str:
    def arrow(name: str, colour: str, length: int, width: float, dash: str = "") -> str:
        return (
            f'<g data-arrow="{name}" transform="rotate({-values["toward_" + name]:.2f})" '
            f'stroke="{colour}" fill="{colour}"><line x2="{length - 8}" stroke-width="{width}" '
            f'stroke-dasharray="{dash or "none"}"/><polygon stroke="none" '
            f'points="{length},0 {length - 12},-5.5 {length - 12},5.5"/></g>'
        )

    def tip(name: str, mark: str, reach: int, aside: int = 0) -> str:
        degrees = values["toward_" + name] + aside * values["side"]
        return (
            f'<g data-tip="{name}" data-reach="{reach}" data-aside="{aside}" '
            f'transform="translate({_at(degrees, reach)})">{mark}</g>'
        )

    def bar(name: str, title: str, y: int) -> str:
        return (
            f'<text x="-100" y="{y + 13}" text-anchor="end">{title}</text>'
            f'<rect x="-90" y="{y}" width="{BAR}" height="17" fill="{COLOURS["visual"]}"/>'
            f'<rect x="-90" y="{y}" width="{BAR * values[name]:.2f}" height="17" '
            f'fill="{COLOURS["audio"]}" data-bar="{name}"/>'
        )

    sweep = 1 if values["side"] < 0 else 0
    arc = [_at(values["toward_" + name], ARC) for name in ("query", "anchor")]
    ring = f'fill="none" stroke-width="2.5" stroke="{COLOURS["anchor"]}"'
    grey = f'fill="none" stroke="{COLOURS["noise"]}"'
    return (
        f'<svg role="img" aria-label="{label}" viewBox="-172 -150 344 332" '
        'style="display:block;width:100%;max-width:26rem;height:auto;margin:auto" '
        'font-size="14" fill="currentColor" text-anchor="middle">'
        f'<circle r="{QUERY}" {grey} stroke-dasharray="1 4"/>'
        f'<path d="M{arc[0]}A{ARC} {ARC} 0 0 {sweep} {arc[1]}" {grey} stroke-width="1.5"/>'
        + arrow("audio", COLOURS["audio"], KEY, 2)
        + arrow("visual", COLOURS["visual"], KEY, 2)
        + arrow("query", COLOURS["query"], QUERY, 3.5)
        + arrow("anchor", COLOURS["query"], QUERY, 3.5, "7 4")
        + tip("audio", '<text y="5">audio key</text>', 138)
        + tip("visual", '<text y="5">visual key</text>', 138)
        + tip("query", '<text y="5">q</text>', 95, -8)
        + tip("anchor", '<text y="5">qR</text>', 58, -17)
        + tip("anchor", f'<circle r="7" {ring}/>', QUERY)
        + bar("share", "before", 120)
        + bar("share_after", "after", 145)
        + '<text x="-90" y="177" text-anchor="start">audio’s attention</text>'
        '<text x="160" y="177" text-anchor="end">visual’s</text></svg>'
    )


def _table(said: dict[str, str]) -> str:
    names = ["audio", "visual", "air", "share"]
    return table(
        ["cosine audio", "cosine visual", "AIR", "share audio"],
        [("before", names), ("after", [name + "_after" for name in names])],
        said,
    )
