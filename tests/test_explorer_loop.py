"""The loop explorer: both faces show what the package computes."""

import json
import math
import random
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from rollingq_core.explorer.loop import DURATION, SLIDERS, LoopExplorer
from rollingq_core.theory import FeedbackLoop
from tests.explorers import (
    MOVES,
    check_phone,
    faces_of,
    opened,
    settings_of,
    untouched,
    write_page,
)


class Shown(HTMLParser):
    """What a reader of the explorer's HTML sees: texts by name, and numbers of the drawing."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.drawing, self.label, self.open = {}, {}, "", None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.open = given.get("data-text")
        if tag == "svg" and "aria-label" in given:
            self.label = given["aria-label"]
        name = given.get("data-path") or given.get("data-dot")
        if name:
            numbers = " ".join(given.get(key) or "" for key in ("d", "cx", "cy"))
            self.drawing[name] = [float(n) for n in re.findall(r"-?\d+\.\d+", numbers)]

    def handle_data(self, data):
        if self.open:
            self.texts[self.open] = data
            self.open = None


def live(explorer, **settings):
    """Set the sliders of the live face from Python, and return what it then shows."""
    *sliders, picture = explorer.widget().children
    for slider, name in zip(sliders, SLIDERS, strict=True):
        slider.value = settings[name]
    return Shown(picture.value)


def share(lean):
    return (1 + math.tanh(lean)) / 2


@pytest.mark.parametrize(
    "settings",
    [(1.6, 0.04, 0.5, -1), (1.6, 0.04, 0.4, -1.2), (2.4, -0.3, 0.8, 1), (0.6, 0.1, 0.2, 0)],
)
def test_values_are_the_packages(settings):
    gain, head_start, start, turn = settings
    values = LoopExplorer(pace=0.7).measure(*settings)
    loop = FeedbackLoop(gain, head_start, 0.7)
    before = loop.run(math.atanh(2 * start - 1), 0, DURATION)[-1]
    after = loop.run(turn * before[0], before[1], DURATION)[-1]
    assert values["limit"] == loop.largest_head_start
    assert values["points"] == len(loop.fixed_points()) == len(values["fixed"])
    for point, state in zip(loop.fixed_points(), values["fixed"], strict=True):
        assert state.tolist() == pytest.approx([share(point.lean), point.gap])
    assert values["before"] == pytest.approx(share(before[0]))
    assert values["turned"] == pytest.approx(share(turn * before[0]))
    assert (values["after"], values["gap_after"]) == pytest.approx((share(after[0]), after[1]))
    # The drawn paths begin and end where the numbers say.
    np.testing.assert_allclose(values["path_before"][0], [start, 0])
    assert values["path_after"][-1].tolist() == [values["after"], values["gap_after"]]


def test_the_live_face_follows_its_sliders():
    explorer = LoopExplorer()
    first = live(explorer, gain=1.6, head_start=0.04, share=0.5, turn=-1)
    assert first.texts["readout"] == (
        "Fixed points: 3 (three while the head start is nearer to 0 than 0.17). Audio’s share goes "
        "from 0.50 to 0.95; the turn makes it 0.05, and it ends at 0.95."
    )
    second = live(explorer, gain=1.6, head_start=0.04, share=0.5, turn=-1.2)
    assert second.texts["readout"].endswith("and it ends at 0.07.")
    assert "ends at share 0.07 and gap −0.83" in second.label
    assert second.drawing["after"] != first.drawing["after"]
    assert second.drawing["before"] == first.drawing["before"]
    third = live(explorer, gain=0.8, head_start=-0.04, share=0.5, turn=1)
    assert third.texts["readout"].startswith("Fixed points: 1 ")
    # One basin, that of the only end, and no boundary; the other two points are out of sight.
    assert third.drawing["boundary"] == third.drawing["audio"] == []
    assert len(third.drawing["visual"]) == 8
    assert third.drawing["1"][0] == third.drawing["2"][0] == -50


def test_balance_stays_where_it_is():
    values = LoopExplorer().measure(2, 0, 0.5, -2)
    assert values["before"] == values["after"] == 0.5


def test_faces_of_a_cell():
    explorer = LoopExplorer(1.2, -0.1, 0.3, 0.5)
    text, page = faces_of(explorer, LoopExplorer(1.2, -0.1, 0.3, 0.5))
    assert text == "LoopExplorer(gain=1.2, head_start=-0.1, share=0.3, turn=0.5)"
    # Exactly what the live face shows.
    shown, again = Shown(page), live(explorer, **explorer.start)
    assert again.texts.items() <= shown.texts.items()
    assert (shown.drawing, shown.label) == (again.drawing, again.label)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"gain": 3}, "gain"),
        ({"head_start": -0.5}, "head_start"),
        ({"share": 1}, "share"),
        ({"turn": 2}, "turn"),
        ({"pace": 0}, "pace"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        LoopExplorer(**wrong)


@pytest.fixture(scope="module")
def pair():
    return LoopExplorer(), LoopExplorer(2.2, -0.2, 0.7, 0.4, pace=0.5)


@pytest.fixture(scope="module")
def path(pair, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("explorer"), *pair)


def check(group, explorer):
    """Assert that the page shows what the package computes where its sliders stand now."""
    settings = settings_of(group)
    data = json.loads(group.evaluate("g => JSON.stringify(g.dataset)"))
    values = explorer.measure(**settings)
    for name, value in values.items():
        if np.ndim(value) == 0:
            assert float(data[name]) == pytest.approx(value, abs=1e-6), (name, settings)
    shown = Shown(group.inner_html())
    expected = live(explorer, **settings)
    assert expected.texts.items() <= shown.texts.items()
    assert shown.drawing.keys() == expected.drawing.keys()
    for name, numbers in expected.drawing.items():
        assert shown.drawing[name] == pytest.approx(numbers, abs=0.011), (name, settings)
    assert shown.label == expected.label
    return settings, shown


@pytest.mark.browser
@pytest.mark.parametrize("move", MOVES)
def test_sliders_change_numbers_and_drawing_as_the_package_does(browser, path, pair, move):
    chance = random.Random(0)
    with opened(browser, path) as (visit, groups):
        for group, explorer in zip(groups, pair, strict=True):
            before, shown = check(group, explorer)
            assert before == explorer.start
            for name in SLIDERS:
                slider = group.locator(f"input[name={name}]")
                for _ in range(5):
                    move(visit, slider, chance)
                    after, now = check(group, explorer)
                    assert {k for k in after if after[k] != before[k]} == {name}
                    assert now.drawing != shown.drawing
                    assert now.texts[name] == slider.get_attribute("aria-valuetext")
                    assert now.texts[name] != shown.texts[name]
                    before, shown = after, now


@pytest.mark.browser
def test_two_explorers_on_a_page_do_not_interfere(browser, path, pair):
    with opened(browser, path) as (_, (first, second)):
        with untouched(second):
            first.locator("input[name=gain]").press("End")
            assert check(first, pair[0])[0]["gain"] == 2.5
        with untouched(first):
            second.locator("input[name=gain]").press("Home")
            assert check(second, pair[1])[0]["gain"] == 0.2


@pytest.mark.browser
def test_it_fits_a_phone_and_each_slider_has_a_name(browser, path):
    check_phone(browser, path, [title for *_, title in SLIDERS.values()])
