"""Draw the book's first picture, book/_static/hero.svg, from a trained model.

Twelve epochs of fusion in setting P on the digits that ship with the package, seed 0, then one
turn: the average keys at their angles to the query, and the anchor that the query turns to.

Example: python scripts/draw_hero.py
"""

import copy
import io
import re
from dataclasses import replace
from pathlib import Path

from matplotlib import pyplot as plt

from rollingq_core import QueryRotation
from rollingq_core.data import load_dataset
from rollingq_core.models.predictions import predict
from rollingq_core.plots import keys_around_query
from rollingq_core.plots.style import INK
from rollingq_core.runs import train
from rollingq_core.settings import SETTINGS

HERO = Path(__file__).parents[1] / "book" / "_static" / "hero.svg"
TITLE = "A query that turns its back on vision, and is turned round"
DESCRIPTION = (
    "A query arrow stands at about a right angle to a cloud of audio keys, and points away from "
    "a cloud of visual keys. RollingQ turns it, past a right angle, to an anchor among the "
    "visual keys."
)
# An image on a page can't take the page's colour; this grey reads on light and dark.
GREY = "#6E7781"


def one_turn():
    """Return the answers on the test split just before the turn, and the turn's event."""
    setting = SETTINGS["P"]
    training = replace(setting.training, epochs=12)
    setting = replace(setting, training=training, max_rotations=1, start_epoch=11)
    run = train("mt+rollingq", load_dataset("digits", seed=0), setting=setting, seed=0)
    before = copy.deepcopy(run.model)
    before.fusion.rotation = QueryRotation(setting.dim)
    return predict(before, run.data.test), run.events[0]


def svg(answers, event):
    """Return the picture as text; the same model gives the same text."""
    drawn = keys_around_query(answers, event.angle, None, every=6)
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "hero"}):
        drawn.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, GREY)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    words = f'<title id="t">{TITLE}</title>\n<desc id="d">{DESCRIPTION}</desc>\n'
    opening = '<svg role="img" aria-labelledby="t d"'
    return re.sub(r"<svg([^>]*>)", rf"{opening}\1\n{words}", text, count=1)


if __name__ == "__main__":
    HERO.write_text(svg(*one_turn()), encoding="utf-8")
