"""The loop explorer's picture: the phase plane above, audio's share over time below."""

import numpy as np

from rollingq_core.plots.style import COLOURS

# The drawing's own units: the plane's width, and its height for a gap from -REACH to REACH.
WIDTH, HEIGHT, REACH, TIME_HEIGHT = 300, 210, 1.5, 70


def _line(states: np.ndarray) -> str:
    """Return the data of a line through rows of share and gap, in the plane's units."""
    places = states * (WIDTH, -HEIGHT / 2 / REACH)
    # Adding 0 turns a negative zero into zero.
    return "L".join(f"{x:.2f} {y:.2f}" for x, y in (np.round(places, 2) + 0).tolist())


def _curves(values: dict, settings: dict[str, float]) -> dict[str, str]:
    """Return the path data of each curve, by name."""
    share = np.linspace(0.01, 0.99, 99)
    edge = _line(values["boundary"])
    right, left = (_line(np.array([[x, REACH], [x, -REACH]])) for x in (1, 0))
    if edge:
        basins = {"audio": f"M{edge}L{right}Z", "visual": f"M{edge}L{left}Z"}
    else:
        winner = "audio" if values["fixed"][0, 0] > 0.5 else "visual"
        corners = _line(np.array([[1, -REACH], [0, -REACH], [0, REACH]]))
        basins = {"audio": "", "visual": "", winner: f"M{_line(np.array([[1, REACH]]))}L{corners}Z"}
    before, after = values["path_before"], values["path_after"]
    head_start = settings["head_start"]
    rest = np.array([[0, head_start - 1], [1, head_start + 1]])
    follow = np.stack([share, np.arctanh(2 * share - 1) / settings["gain"]], axis=1)
    curves = {
        **basins,
        "boundary": edge and f"M{edge}",
        "rest": f"M{_line(rest)}",
        "follow": f"M{_line(follow)}",
        "before": f"M{_line(before)}",
        "jump": f"M{_line(np.stack([before[-1], after[0]]))}",
        "after": f"M{_line(after)}",
    }
    both = np.concatenate([before, after])[:, 0]
    halves = np.linspace(0, 0.5, len(before))
    # The lower panel has the share upward; the plane's unit of height is undone.
    up = REACH * 2 / HEIGHT * TIME_HEIGHT * both
    time = np.stack([np.concatenate([halves, halves + 0.5]), up], axis=1)
    return curves | {"time": f"M{_line(time)}"}


def loop_drawing(values: dict, settings: dict[str, float], label: str) -> str:
    """Return the SVG of what :meth:`LoopExplorer.measure` found, with ``label`` for its text."""
    curves = _curves(values, settings)
    grey, pink = COLOURS["noise"], COLOURS["query"]

    def curve(name: str, colour: str, width: float, dash: str = "none") -> str:
        return (
            f'<path data-path="{name}" d="{curves[name]}" fill="none" stroke="{colour}" '
            f'stroke-width="{width}" stroke-dasharray="{dash}"/>'
        )

    def area(name: str) -> str:
        colour = COLOURS[name]
        return f'<path data-path="{name}" d="{curves[name]}" fill="{colour}" opacity="0.16"/>'

    def dot(name: str, state: np.ndarray | None, style: str) -> str:
        x, y = ("-50.00", "0.00") if state is None else _line(state[None]).split()
        return f'<circle data-dot="{name}" cx="{x}" cy="{y}" r="5" {style}/>'

    # Places of the fixed points: low end, saddle, high end; a single one is an end.
    fixed = [*values["fixed"]] if values["points"] == 3 else [values["fixed"][0], None, None]
    full, ring = 'fill="currentColor"', 'fill="none" stroke="currentColor" stroke-width="1.5"'
    path_ring = f'fill="none" stroke="{pink}" stroke-width="2"'
    box = f'fill="none" stroke="{grey}" stroke-width="0.8"'
    base = HEIGHT / 2 + 50 + TIME_HEIGHT

    def text(x: float, y: float, said: str, anchor: str = "middle") -> str:
        return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{said}</text>'

    window = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 {-HEIGHT / 2:g} {WIDTH} {HEIGHT}"'
    return (
        f'<svg role="img" aria-label="{label}" viewBox="-42 {-HEIGHT / 2 - 12:g} 354 '
        f'{HEIGHT + TIME_HEIGHT + 82}" style="display:block;width:100%;max-width:28rem;'
        'height:auto;margin:auto" font-size="12" fill="currentColor">'
        # A picture inside the picture cuts off what leaves its window.
        f'<svg x="0" y="{-HEIGHT / 2:g}" {window}>'
        + area("audio")
        + area("visual")
        + curve("boundary", "currentColor", 1.3, "2 3")
        + curve("rest", COLOURS["anchor"], 1.6)
        + curve("follow", grey, 1.6, "6 4")
        + curve("before", pink, 2.5)
        + curve("jump", pink, 1.6, "3 4")
        + curve("after", pink, 2.5)
        + dot("start", values["path_before"][0], path_ring)
        + dot("0", fixed[0], full)
        + dot("1", fixed[1], ring)
        + dot("2", fixed[2], full)
        + f'</svg><rect x="0" y="{-HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" {box}/>'
        + f'<g transform="translate(0 {base:g})">{curve("time", pink, 2)}</g>'
        + f'<rect x="0" y="{base - TIME_HEIGHT:g}" width="{WIDTH}" height="{TIME_HEIGHT}" {box}/>'
        + f'<path d="M0 {base - TIME_HEIGHT / 2:g}H{WIDTH}" {box} stroke-dasharray="1 4"/>'
        + "".join(text(WIDTH * x, HEIGHT / 2 + 16, f"{x:g}") for x in (0, 0.5, 1))
        + text(WIDTH / 2, HEIGHT / 2 + 32, "audio’s share")
        + "".join(
            text(-6, 4 - HEIGHT / 2 / REACH * y, f"{y:g}".replace("-", "−"), "end")
            for y in (-1, 0, 1)
        )
        + text(-6, 4 - HEIGHT / 6, "gap Δ", "end")
        + "".join(text(-6, base + 4 - TIME_HEIGHT * y, f"{y:g}", "end") for y in (0, 1))
        + text(-6, base + 4 - TIME_HEIGHT / 2, "share", "end")
        + text(WIDTH / 2, base + 18, "time; the turn is in the middle")
        + "</svg>"
    )
