"""The geometry explorer: both faces show what the package computes."""

import json
import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rollingq_core import (
    AttentionFusion,
    anchor_weight,
    attention_imbalance_rate,
    minimal_rotation,
    rebalance_anchor,
)
from rollingq_core.explorer import GeometryExplorer
from rollingq_core.explorer.geometry import SLIDERS
from tests.explorers import (
    MOVES,
    Shown,
    check_phone,
    faces_of,
    opened,
    settings_of,
    untouched,
    write_page,
)


def live(explorer, **settings):
    """Set the sliders of the live face from Python, and return what it then shows."""
    *sliders, picture = explorer.widget().children
    for slider, name in zip(sliders, SLIDERS, strict=True):
        slider.value = settings[name]
    return Shown(picture.value)


settings_of_sliders = st.fixed_dictionaries(
    {name: st.floats(low, high) for name, (low, high, *_) in SLIDERS.items()}
)


@given(settings_of_sliders)
def test_values_are_the_packages(settings):
    explorer = GeometryExplorer(query_norm=3, key_norm=1.5, tokens=(4, 9))
    values = explorer.measure(**settings)

    def row(degrees, length):
        angle = torch.tensor(math.radians(degrees), dtype=torch.float64)
        return length * torch.stack([angle.cos(), angle.sin()])

    middle = 90
    audio = row(middle - settings["spread"] / 2, 1.5)
    visual = row(middle + settings["spread"] / 2, 1.5)
    query = row(middle - settings["lean"], 3)
    air = attention_imbalance_rate(query, audio[None], visual[None])
    alpha = anchor_weight(float(air), settings["rho"])
    rotation = minimal_rotation(query, rebalance_anchor(query, audio, visual, alpha))
    turned = query @ rotation
    cosine = torch.nn.functional.cosine_similarity
    expected = {
        "air": air,
        "alpha": alpha,
        "air_after": attention_imbalance_rate(turned, audio[None], visual[None]),
        "share": share(query, audio, visual),
        "share_after": share(turned, audio, visual),
        "audio": cosine(query, audio, dim=0),
        "visual": cosine(query, visual, dim=0),
        "audio_after": cosine(turned, audio, dim=0),
        "visual_after": cosine(turned, visual, dim=0),
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(float(value), abs=1e-6), name
    assert math.cos(math.radians(values["turn"])) == pytest.approx(
        float(rotation.trace() / 2), abs=1e-6
    )


def share(query, audio, visual):
    """Audio's attention mass in the package's own layer, for 4 audio and 9 visual tokens."""
    layer = AttentionFusion(2, 2, bias=False).double().requires_grad_(False)
    layer.cls.copy_(query)
    layer.q_proj.weight.copy_(torch.eye(2))
    layer.k_proj.weight.copy_(torch.eye(2))
    return layer([audio.expand(1, 4, 2), visual.expand(1, 9, 2)]).share[0, 0]


def test_the_live_face_follows_its_sliders():
    explorer = GeometryExplorer()
    first = live(explorer, lean=30, rho=1, spread=90)
    assert first.texts["readout"] == (
        "AIR +0.71 gives α = 0.20: the query turns by 61°. "
        "Audio’s share of attention goes from 0.87 to 0.10."
    )
    second = live(explorer, lean=-60, rho=3, spread=120)
    values = explorer.measure(-60, 3, 120)
    assert second.texts["readout"].startswith(f"AIR −{-values['air']:.2f} gives")
    assert second.texts["share_after"] == f"{values['share_after']:.2f}"
    assert f"{values['turn']:.0f} degrees" in second.label
    assert second.drawing != first.drawing


def test_a_balanced_query_stays():
    texts = live(GeometryExplorer(), lean=0, rho=3, spread=90).texts
    assert texts["air"] == texts["air_after"] == "0.00"
    assert "α = 0.50: the query turns by 0°" in texts["readout"]


def test_faces_of_a_cell():
    explorer = GeometryExplorer(-20, 2.5, 60)
    text, page = faces_of(explorer, GeometryExplorer(-20, 2.5, 60))
    assert text == "GeometryExplorer(lean=-20, rho=2.5, spread=60)"
    # Exactly what the live face shows.
    shown, again = Shown(page), live(explorer, **explorer.start)
    assert again.texts.items() <= shown.texts.items()
    assert (shown.drawing, shown.label) == (again.drawing, again.label)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"lean": 181}, "lean"),
        ({"rho": 0}, "rho"),
        ({"spread": 180}, "spread"),
        ({"query_norm": 0}, "query_norm"),
        ({"key_norm": -1}, "key_norm"),
        ({"tokens": (0, 3)}, "tokens"),
        ({"tokens": (7.0, 8)}, "tokens"),
        ({"tokens": (7, 2.5)}, "tokens"),
        ({"tokens": (True, 8)}, "tokens"),
        ({"tokens": (7,)}, "tokens"),
        ({"tokens": (7, 8, 9)}, "tokens"),
        ({"lean": "30"}, "lean"),
        ({"rho": float("nan")}, "rho"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        GeometryExplorer(**wrong)


@pytest.fixture(scope="module")
def pair():
    return GeometryExplorer(), GeometryExplorer(-40, 2, 120, query_norm=3, tokens=(2, 5))


@pytest.fixture(scope="module")
def path(pair, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("explorer"), *pair)


def check(group, explorer):
    """Assert that the page shows what the package computes where its sliders stand now."""
    settings = settings_of(group)
    data = json.loads(group.evaluate("g => JSON.stringify(g.dataset)"))
    values = explorer.measure(**settings)
    for name, value in values.items():
        assert float(data[name]) == pytest.approx(value, abs=1e-6), (name, settings)
    shown = Shown(group.inner_html())
    expected = live(explorer, **settings)
    assert expected.texts.items() <= shown.texts.items()
    assert shown.drawing == pytest.approx(expected.drawing, abs=0.011)
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
            # Rho first: where the others have gone far, alpha is 0 or 1 at any rho.
            for name in ("rho", "lean", "spread"):
                slider = group.locator(f"input[name={name}]")
                drawings = [shown.drawing]
                for _ in range(5):
                    move(visit, slider, chance)
                    after, now = check(group, explorer)
                    assert {k for k in after if after[k] != before[k]} == {name}
                    assert name == "rho" or now.drawing != shown.drawing
                    drawings.append(now.drawing)
                    text = slider.get_attribute("aria-valuetext")
                    assert now.texts[name] == text != shown.texts[name]
                    before, shown = after, now
                assert drawings.count(drawings[0]) < len(drawings)


@pytest.mark.browser
def test_two_explorers_on_a_page_do_not_interfere(browser, path, pair):
    with opened(browser, path) as (_, (first, second)), untouched(second):
        first.locator("input[name=lean]").press("End")
        assert check(first, pair[0])[0]["lean"] == 180


@pytest.mark.browser
def test_it_fits_a_phone_and_each_slider_has_a_name(browser, path):
    check_phone(browser, path, [title for *_, title in SLIDERS.values()])
