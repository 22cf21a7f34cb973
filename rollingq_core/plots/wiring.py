"""Who reads whom in each kind of fusion, drawn in one language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from rollingq_core._checks import require_choice
from rollingq_core.plots.style import COLOURS, INK, colour_of, figure

AUDIO, CLS, VISUAL, SHARED, ANSWER = "audio", "class token", "visual", "shared", "answer"
# What a step does: each reader, and those it reads.
Step = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Wiring:
    """Streams of tokens, and who reads whom from step to step.

    Parameters
    ----------
    streams
        From above.
    steps
        By attention: each reader, and the streams that are its keys.
    answer
        What the classifier reads.
    fixed
        Readings that are no attention but a fixed map, as (step, reader).
    turned
        The step in which the class token's query can be turned, from 0; None where there is none.
    """

    streams: tuple[str, ...]
    steps: tuple[Step, ...]
    answer: tuple[str, ...]
    fixed: tuple[tuple[int, str], ...] = ()
    turned: int | None = None


_ALL = (AUDIO, CLS, VISUAL)
_TO_EACH_OTHER = {AUDIO: (VISUAL,), VISUAL: (AUDIO,)}
_TO_ITSELF = {AUDIO: (AUDIO,), VISUAL: (VISUAL,)}
_BOTTLENECK = {
    AUDIO: (AUDIO, SHARED),
    SHARED: (AUDIO, SHARED, VISUAL),
    VISUAL: (SHARED, VISUAL),
}
WIRINGS = {
    "concat": Wiring((AUDIO, VISUAL), (), (AUDIO, VISUAL)),
    "mt": Wiring(_ALL, ({CLS: (AUDIO, VISUAL)},), (CLS,), turned=0),
    "mt2": Wiring(_ALL, (dict.fromkeys(_ALL, _ALL), {CLS: _ALL}), (CLS,), turned=1),
    "mult": Wiring((AUDIO, VISUAL), (_TO_EACH_OTHER, _TO_ITSELF), (AUDIO, VISUAL)),
    "mult-joint": Wiring(_ALL, (_TO_EACH_OTHER, {CLS: (AUDIO, VISUAL)}), (CLS,), turned=1),
    "mbt": Wiring((AUDIO, SHARED, VISUAL), (_BOTTLENECK, _BOTTLENECK), (AUDIO, VISUAL)),
    "jmt": Wiring(
        (AUDIO, SHARED, VISUAL),
        (
            {SHARED: (AUDIO, VISUAL)},
            {AUDIO: (SHARED, VISUAL), SHARED: (AUDIO, VISUAL), VISUAL: (AUDIO, SHARED)},
        ),
        (AUDIO, SHARED, VISUAL),
        fixed=((0, SHARED),),
    ),
    "mmml": Wiring((AUDIO, VISUAL), (_TO_EACH_OTHER, _TO_ITSELF), (AUDIO, VISUAL)),
    "mmml-joint": Wiring(_ALL, (_TO_EACH_OTHER, {CLS: (AUDIO, VISUAL)}), (CLS,), turned=1),
}


def wiring(name: str, title: str) -> Figure:
    """Draw who reads whom, step by step from left to right.

    A line runs from a stream to its reader in the colour of what is read, dashed where a fixed
    map reads. A ring is around a class token whose query can be turned. What a stream keeps of
    itself beside what it reads (its residual) is the thin line.

    Parameters
    ----------
    name
        One of ``WIRINGS``.
    title
        The finding.
    """
    require_choice("name", name, tuple(WIRINGS))
    drawn = WIRINGS[name]
    places = {stream: -float(row) for row, stream in enumerate(drawn.streams)}
    middle = (min(places.values()) + max(places.values())) / 2
    last = len(drawn.steps)
    with figure(1, 1, 0.95 + 0.42 * len(drawn.streams)) as (made, axis):
        for step, readers in enumerate(drawn.steps):
            for stream in drawn.streams:
                _line(axis, step, places[stream], places[stream], INK, 0.6, "-")
            for reader, sources in readers.items():
                kind = "--" if (step, reader) in drawn.fixed else "-"
                for source in sources:
                    _line(axis, step, places[source], places[reader], _colour(source), 1.8, kind)
        for source in drawn.answer:
            _line(axis, last, places[source], middle, _colour(source), 1.8, "--")
        for step in range(last + 1):
            for stream, y in places.items():
                axis.plot(step, y, "o", color=_colour(stream), markersize=9, zorder=3)
        if drawn.turned is not None:
            ring = {"markerfacecolor": "none", "color": INK, "markersize": 16, "zorder": 3}
            axis.plot(drawn.turned + 1, places[CLS], "o", **ring)
        axis.plot(last + 1, middle, "s", color=INK, markersize=9, zorder=3)
        axis.set_xticks(
            range(last + 2),
            ["tokens", *(f"step {step + 1}" for step in range(last)), ANSWER],
        )
        axis.set_yticks([*places.values()], [*places])
        axis.set_xlim(-0.3, last + 1.3)
        axis.set_ylim(min(places.values()) - 0.45, 0.45)
        axis.set_ylabel("stream")
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
        made.suptitle(title, fontsize=11)
    return made


def _line(axis, step: int, start: float, end: float, colour: str, width: float, kind: str) -> None:
    axis.plot(
        [step, step + 1], [start, end], linestyle=kind, color=colour, linewidth=width, alpha=0.9
    )


def _colour(stream: str) -> str:
    if stream in (AUDIO, VISUAL):
        return colour_of(stream)
    return COLOURS["query" if stream == CLS else "anchor"]
