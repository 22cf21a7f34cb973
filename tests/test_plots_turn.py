"""Figures of a turn show what they are given."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from rollingq_core.models.predictions import Predictions
from rollingq_core.plots import COLOURS, cost_of_turn, keys_around_query
from scripts import draw_hero


def answers(cosines, norms):
    """Predictions of which only the keys matter here."""
    cosines, norms = torch.tensor(cosines), torch.tensor(norms)
    nothing = torch.zeros(len(cosines), 2)
    return Predictions(nothing, nothing[:, 0], nothing, cosines, norms, torch.ones(4), {})


def clouds(drawn):
    (axis,) = drawn.axes
    return {to_hex(c.get_facecolor()[0]): np.asarray(c.get_offsets()) for c in axis.collections}


def arrows(drawn):
    """Tips of the thick arrows, by colour."""
    (axis,) = drawn.axes
    found = {}
    for text in axis.texts:
        patch = getattr(text, "arrow_patch", None)
        if patch is not None:
            found[to_hex(patch.get_facecolor())] = np.asarray(text.xy)
    return found


def angle(one, other):
    """Clockwise angle from one page vector to another, in degrees."""
    turns = np.degrees(np.arctan2(one[1], one[0]) - np.arctan2(other[1], other[0]))
    return (turns + 180) % 360 - 180


def test_keys_stand_at_their_angles_and_norms():
    cosines = [[0.0, -0.8], [0.5, -1.0], [1.0, 0.3]]
    norms = [[1.0, 2.0], [3.0, 4.0], [2.0, 5.0]]
    drawn = keys_around_query(answers(cosines, norms), None, None, every=1)
    query = arrows(drawn)[COLOURS["query"].lower()]
    for index, (name, side) in enumerate((("audio", 1), ("visual", -1))):
        marks = clouds(drawn)[COLOURS[name].lower()]
        for mark, cosine, norm in zip(marks, cosines, norms, strict=True):
            assert np.linalg.norm(mark) == pytest.approx(norm[index], rel=1e-5)
            wanted = side * np.degrees(np.arccos(cosine[index]))
            off = (angle(query, mark) - wanted + 180) % 360 - 180
            assert off == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("turn", [0.4, 1.5, 2.5])
def test_anchor_stands_at_the_turn_on_the_side_of_vision(turn):
    drawn = keys_around_query(answers([[0.1, -0.7]], [[1.0, 1.0]]), turn, None, every=1)
    tips = arrows(drawn)
    turned = angle(tips[COLOURS["query"].lower()], tips[COLOURS["anchor"].lower()])
    assert turned == pytest.approx(-np.degrees(turn), abs=0.01)
    assert f"{np.degrees(turn):.0f}°" in {text.get_text() for text in drawn.axes[0].texts}


def test_cost_of_a_turn_draws_means_over_runs_and_a_drop_at_the_turn():
    epochs = [1, 2, 2, 3]
    share = np.array([[0.5, 0.9, 0.1, 0.7], [0.7, 0.7, 0.3, 0.9]])
    drawn = cost_of_turn(epochs, {"share of audio": share, "accuracy, %": 100 * share}, 2, "Title")
    for axis, values in zip(drawn.axes, (share, 100 * share), strict=True):
        line = axis.lines[0]
        assert line.get_xdata().tolist() == epochs
        assert line.get_ydata() == pytest.approx(values.mean(axis=0))
        assert list(axis.lines[1].get_xdata()) == [2, 2]
        (band,) = axis.collections
        top = band.get_paths()[0].vertices[:, 1].max()
        assert top == pytest.approx((values.mean(0) + values.std(0, ddof=1)).max())


def test_hero_is_the_scripts_picture():
    text = draw_hero.HERO.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    words = {child.tag.split("}")[1]: child.text for child in root[:2]}
    assert words == {"title": draw_hero.TITLE, "desc": draw_hero.DESCRIPTION}
    assert not re.search(r"(href|src)=\"https?:", text)
    assert len(text) < 200_000


def test_hero_is_described_where_it_stands(root):
    text = (root / "book" / "intro.md").read_text(encoding="utf-8")
    assert draw_hero.DESCRIPTION in text
