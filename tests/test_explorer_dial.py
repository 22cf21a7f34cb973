"""The noise dial: accuracies and shares of a comparison, under a slider for the noise."""

import random
import re

import numpy as np
import pytest

from rollingq_core.explorer import NoiseDial
from rollingq_core.methods import DYNAMIC, METHODS
from rollingq_core.plots import mean_interval, of_method
from tests.explorers import (
    LEVELS,
    MOVES,
    VIEW,
    Shown,
    by_mouse,
    check_phone,
    check_picture,
    noise_record,
    opened,
    untouched,
    write_page,
)


@pytest.fixture(scope="module")
def records():
    return {"digits": noise_record(0), "voices & <pictures>": noise_record(1)}


@pytest.fixture(scope="module")
def dial(records):
    return NoiseDial(records, 0.25)


def values(record, method, name, level):
    return np.array([run[name][level] for run in of_method(record["runs"], method)])


def signed(text):
    return text.replace("-", "−")


@pytest.mark.parametrize("level", range(5))
@pytest.mark.parametrize("index", [0, 1])
def test_texts_are_statistics_over_seeds(dial, records, index, level):
    record = list(records.values())[index]
    shown = Shown(dial._picture({"record": index, "level": level}))
    for method in DYNAMIC:
        mean, half = mean_interval(100 * values(record, method, "accuracy", level))
        assert shown.texts[f"accuracy_{method}"] == f"{mean:.1f} ± {half:.1f}"
        mean, half = mean_interval(values(record, method, "shares", level))
        assert shown.texts[f"share_{method}"] == f"{mean:.2f} ± {half:.2f}"
        # The axis of shares is 224 units wide.
        (interval,) = shown.paths[f"range-{method}"]
        left, right = map(float, re.findall(r"M([\d.]+) \d+H([\d.]+)", interval)[0])
        edges = np.clip([mean - half, mean + half], 0, 1) * 224
        assert [left, right] == pytest.approx(edges, abs=0.06)
    pairs = [values(record, m, "accuracy", level) for m in ("mt+rollingq", "mt")]
    mean, half = mean_interval(100 * (pairs[0] - pairs[1]))
    expected = f"At noise level {LEVELS[level]:g}, RollingQ − vanilla is "
    assert shown.texts["readout"].startswith(expected + signed(f"{mean:+.1f} ± {half:.1f}"))


def test_the_verdict_follows_the_interval():
    def dial(gains):
        record = noise_record(methods=("mt", "mt+rollingq"))
        for run, gain in zip(of_method(record["runs"], "mt+rollingq"), gains, strict=True):
            (partner,) = (
                r for r in record["runs"] if r["method"] == "mt" and r["seed"] == run["seed"]
            )
            run["accuracy"] = [value + gain for value in partner["accuracy"]]
        return Shown(NoiseDial(record)._picture({"level": 0})).texts["readout"]

    better = dial([0.02, 0.021, 0.019])
    assert "+2.0 ± 0.2 points of test accuracy (paired by seed, 95 % interval)" in better
    assert better.endswith("RollingQ is better.")
    assert dial([-0.02, -0.021, -0.019]).endswith("vanilla is better.")
    assert dial([0.02, -0.02, 0.01]).endswith("the interval holds 0, so no difference is shown.")


def test_curves_go_through_the_means_and_bars_are_intervals(dial, records):
    shown = Shown(dial._picture({"record": 1, "level": 0}))
    record = list(records.values())[1]
    ticks = re.findall(
        r'<text x="-7" y="([\d.]+)" text-anchor="end">([\d.]+)<', dial._picture({"level": 0})
    )
    (y0, v0), *_, (y1, v1) = [(float(y) - 4, float(v)) for y, v in ticks]
    for method in DYNAMIC:
        (path,) = shown.paths[f"line-{method}"]
        (bars,) = shown.paths[f"bars-{method}"]
        ends = re.findall(r" ([\d.]+)V([\d.]+)", bars)
        middles = re.findall(r" ([\d.]+)", path)
        heights = np.vstack([middles, np.transpose(ends)]).astype(float)
        found = v0 + (v1 - v0) / (y1 - y0) * (heights - y0)
        levels = [mean_interval(100 * values(record, method, "accuracy", k)) for k in range(5)]
        expected = [[mean + side * half for mean, half in levels] for side in (0, -1, 1)]
        near = 0.06 * (v1 - v0) / (y0 - y1)
        assert found == pytest.approx(np.array(expected), abs=near)


def test_faces_of_a_cell(dial, records):
    bundle = dial._repr_mimebundle_()
    assert bundle["text/plain"] == ("NoiseDial(5 levels, 3 seeds of digits, voices & <pictures>)")
    assert bundle[VIEW]["model_id"] == dial.widget().model_id
    page = bundle["text/html"]
    assert page == NoiseDial(records, 0.25)._repr_mimebundle_()["text/html"]
    assert len(page.encode()) < 250_000
    assert not re.search(r"\s(id|src|href)=|https?:|url\(|import|<pictures>", page)
    alone = NoiseDial(records["digits"])._repr_mimebundle_()
    assert "<select" not in alone["text/html"]
    assert alone["text/plain"] == "NoiseDial(5 levels, 3 seeds)"


def test_every_method_can_be_drawn_under_its_label(monkeypatch):
    drawn = NoiseDial(noise_record(methods=METHODS))._picture({"level": 0})
    assert all(f">{method.label}<" in drawn for method in METHODS.values())
    # A method that somebody adds has no look of its own yet.
    monkeypatch.setitem(METHODS, "own", METHODS["mt"])
    assert 'data-path="line-own"' in NoiseDial(noise_record(methods=METHODS))._picture({"level": 0})


def test_the_live_face_follows_its_controls(dial):
    data, level, picture = dial.widget().children
    data.value, level.value = 1, 3
    assert picture.value == dial._picture({"record": 1, "level": 3})
    level.value = 0
    assert picture.value == dial._picture({"record": 1, "level": 0})


def test_what_does_not_fit_is_refused():
    record = noise_record()
    with pytest.raises(ValueError, match=r"^level: got 0\.3"):
        NoiseDial(record, 0.3)
    bare = [{k: v for k, v in run.items() if k != "shares"} for run in record["runs"]]
    with pytest.raises(ValueError, match=r"^record: got runs without 'shares'"):
        NoiseDial(record | {"runs": bare})
    with pytest.raises(ValueError, match=r"^record: got levels and methods"):
        NoiseDial({"a": record, "b": noise_record(methods=("mt", "mt+rollingq"))})
    with pytest.raises(ValueError, match=r"expected also 'mt' and 'mt\+rollingq'"):
        NoiseDial(noise_record(methods=("mt",)))


@pytest.fixture(scope="module")
def path(dial, records, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("dial"), dial, NoiseDial(records["digits"]))


@pytest.mark.browser
@pytest.mark.parametrize("move", MOVES)
def test_controls_change_numbers_and_drawing_as_the_package_does(browser, path, dial, move):
    chance = random.Random(0)
    with opened(browser, path) as (visit, (group, other)), untouched(other):
        before, shown = check_picture(group, dial)
        assert before == {"record": 0, "level": 1}
        slider, choice = group.locator("input"), group.locator("select")
        for turn in range(5):
            move(visit, slider, chance)
            after, now = check_picture(group, dial)
            assert after["level"] != before["level"]
            assert now.paths["level"] != shown.paths["level"]
            assert now.paths["share-mt+rollingq"] != shown.paths["share-mt+rollingq"]
            assert slider.get_attribute("aria-valuetext") == now.texts["level"]
            assert now.texts["readout"] != shown.texts["readout"]
            # A list opened by the mouse is drawn outside of the page, where no test reaches.
            if move is by_mouse:
                choice.select_option(index=(turn + 1) % 2)
            else:
                choice.press("ArrowUp" if after["record"] else "ArrowDown")
            before, shown = check_picture(group, dial)
            assert before["record"] != after["record"]
            assert shown.paths["line-mt"] != now.paths["line-mt"]


@pytest.mark.browser
def test_it_fits_a_phone_and_each_control_has_a_name(browser, path):
    check_phone(browser, path, ["noise level in the audio"])
    with opened(browser, path) as (visit, _):
        choice = visit.page.get_by_role("combobox", name="data")
        assert choice.count() == 1
        assert choice.is_enabled()
