"""The training map: the record's runs under two sliders, and new runs from a running notebook."""

import random
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from rollingq_core.explorer import TrainingMap
from rollingq_core.plots import mean_interval
from rollingq_core.records import read_record
from rollingq_core.reproduce.reports import summarise
from rollingq_core.runs import train
from rollingq_core.settings import SETTINGS
from tests.explorers import (
    LEVELS,
    MOVES,
    VIEW,
    Shown,
    check_phone,
    check_picture,
    grid_record,
    opened,
    untouched,
    write_page,
)
from tests.small import SETTING, small_data

RHOS = (0.1, 0.3, 0.5, 1, 2, 3, 5, 7, 10)
BETAS = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1)


@pytest.fixture(scope="module")
def record():
    return grid_record()


@pytest.fixture(scope="module")
def full():
    """As large as the book's own record, so that 81 points x 5 seeds x 30 epochs are drawn."""
    return grid_record(RHOS, BETAS, range(5), 30)


def runs_at(record, cell):
    return [run for run in record["runs"] if list(cell) in run["cells"]]


def panels(picture):
    """Return each panel's ticks as (place, value), and its paths by name."""
    for text in re.findall(r'<g transform="translate.*?</g>', picture):
        ticks = re.findall(r'<text x="-7" y="([\d.]+)" text-anchor="end">(−?[\d.]+)<', text)
        yield (
            [(float(y) - 4, float(value.replace("−", "-"))) for y, value in ticks],
            dict(re.findall(r'data-path="(.*?)" d="(.*?)"', text)),
        )


def places(path):
    return np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path), dtype=float)


@pytest.mark.parametrize("cell", [(0, 0), (1, 0), (2, 1), (1, 2)])
def test_curves_are_mean_and_deviation_of_the_points_runs(record, cell):
    picture = TrainingMap(record)._picture({"rho": cell[0], "beta": cell[1]})
    names = ("air", "share", "query_norm", "validation_accuracy")
    for (ticks, paths), name in zip(panels(picture), names, strict=True):
        (y0, v0), *_, (y1, v1) = ticks
        assert y0 > y1
        assert v0 < v1

        def value(y, y0=y0, v0=v0, slope=(v1 - v0) / (y1 - y0)):
            return v0 + slope * (y - y0)

        runs = np.array([run[name] for run in runs_at(record, cell)])
        runs = runs * (100 if name == "validation_accuracy" else 1)
        # Coordinates have one digit after the point.
        near = {"abs": 0.11 * (v1 - v0) / (y0 - y1)}
        mean, sd = runs.mean(axis=0), runs.std(axis=0, ddof=1)
        assert value(places(paths[f"mean-{name}"])[:, 1]) == pytest.approx(mean, **near)
        upper, lower = np.split(value(places(paths[f"band-{name}"])[:, 1]), 2)
        # The axes hold every run, and cut a band that is wider.
        assert upper == pytest.approx(np.clip(mean + sd, v0, v1), **near)
        assert lower[::-1] == pytest.approx(np.clip(mean - sd, v0, v1), **near)
        ticks = re.findall(r"M([\d.]+) 92v-([\d.]+)", paths["rotations"])
        turned = [epoch for run in runs_at(record, cell) for epoch in run["rotations"]]
        # Three epochs on 152 units; a tick of 10 units says that both seeds turned.
        assert {float(x) / 76: float(height) / 5 for x, height in ticks} == Counter(turned)


def test_table_and_sentence_are_statistics_over_seeds(record):
    texts = Shown(TrainingMap(record)._picture({"rho": 2, "beta": 1})).texts
    runs = runs_at(record, (2, 1))
    vanilla = [run for run in record["runs"] if run["method"] == "mt"]
    for level in range(len(LEVELS)):
        left, right = (np.array([100 * r["accuracy"][level] for r in rs]) for rs in (runs, vanilla))
        name = f"accuracy_{level}"
        assert texts[name] == f"{left.mean():.1f} ± {left.std(ddof=1):.1f}"
        assert texts[f"vanilla_{name}"] == f"{right.mean():.1f} ± {right.std(ddof=1):.1f}"
        mean, half = mean_interval(left - right)
        expected = f"{mean:+.1f} ± {half:.1f}".replace("-", "−")
        assert texts[f"{name}_difference"] == expected
    correlations = [run["pearson"] for run in runs]
    assert texts["pearson"].replace("−", "-") == (
        f"{np.mean(correlations):.2f} ± {np.std(correlations, ddof=1):.2f}"
    )
    clean, noisy = (100 * np.mean([r["accuracy"][k] for r in runs]) for k in (0, -1))
    assert texts["readout"].startswith(
        f"ρ = 10, β = 0.1: 2.0 rotations a run. Test accuracy {clean:.1f} %, vanilla "
    )
    assert f"where audio is noise {noisy:.1f} %" in texts["readout"]


def test_a_point_without_rotations_is_vanilla(record):
    picture = TrainingMap(record)._picture({"rho": 1, "beta": 2})
    texts = Shown(picture).texts
    assert texts["rotations"] == texts["vanilla_rotations"] == "0.0 ± 0.0"
    assert texts["accuracy_0_difference"] == "0.0 ± 0.0"
    assert all(not paths["rotations"] for _, paths in panels(picture))


def test_faces_of_a_cell(full):
    shown = TrainingMap(full, rho=4, beta=0.12)
    bundle = shown._repr_mimebundle_()
    assert bundle["text/plain"] == "TrainingMap(9 × 9 grid of rho and beta, 5 seeds)"
    assert bundle[VIEW]["model_id"] == shown.widget().model_id
    page = bundle["text/html"]
    assert page == TrainingMap(full, rho=4, beta=0.12)._repr_mimebundle_()["text/html"]
    assert len(page.encode()) < 250_000
    assert not re.search(r"\s(id|src|href)=|https?:|url\(|import", page)
    # The slider stands at the nearest point, by the logarithm of rho.
    assert (Shown(page).texts["rho"], Shown(page).texts["beta"]) == ("5", "0.1")


def test_the_books_record_fits_on_a_page():
    shown = TrainingMap(read_record("grid-synthetic-T"))
    page = shown._repr_mimebundle_()["text/html"]
    assert len(page.encode()) < 250_000
    texts = Shown(page).texts
    assert (texts["rho"], texts["beta"]) == ("3", "0.1")
    assert texts["rotations"] != texts["vanilla_rotations"] == "0.0 ± 0.0"


def without(record, seed, cell):
    runs = [
        run | {"cells": [c for c in run["cells"] if run["seed"] != seed or c != cell]}
        for run in record["runs"]
    ]
    return record | {"runs": runs}


def test_what_does_not_fit_is_refused(record):
    with pytest.raises(ValueError, match=r"^record: got 0 runs of point \(2, 1\) at seed 1"):
        TrainingMap(without(record, 1, [2, 1]))
    twice = record | {"runs": record["runs"] + record["runs"][-1:]}
    with pytest.raises(ValueError, match=r"^record: got 2 runs of point"):
        TrainingMap(twice)
    with pytest.raises(ValueError, match=r"^record: got 1 seeds"):
        TrainingMap(grid_record(seeds=(0,)))
    with pytest.raises(ValueError, match=r"^rho: got 0"):
        TrainingMap(record, rho=0)
    with pytest.raises(ValueError, match=r"^beta: got 1.5"):
        TrainingMap(record, beta=1.5)


class Live:
    """The controls of the live face."""

    def __init__(self, explorer):
        self.rho, self.beta, row, self.picture = explorer.widget().children
        self.button, self.progress = row.children

    @property
    def said(self):
        return Shown(self.picture.value).texts["live"]

    def own(self):
        """Return the paths of live runs in the first panel, the newest last."""
        first = re.search(r'data-path="rotations".*?</g>', self.picture.value).group()
        return re.findall(r'<path d="([^"]*)" fill="none" stroke="currentColor"', first)


def test_the_live_face_shows_the_nearest_point(record):
    explorer = TrainingMap(record)
    live = Live(explorer)
    live.rho.value, live.beta.value = 0.25, 0.43
    expected = Shown(explorer._picture({"rho": 0, "beta": 1}))
    shown = Shown(live.picture.value)
    assert expected.texts.items() <= shown.texts.items()
    assert shown.paths == expected.paths


def test_the_button_trains_at_exactly_these_values(record):
    data = small_data()
    live = Live(TrainingMap(record, setting=SETTING, data=data))
    live.rho.value, live.beta.value = 0.77, 0.12
    steps, drawn = [], []
    live.progress.observe(lambda change: steps.append(change.new), names="value")
    live.picture.observe(lambda _: drawn.append((live.said, live.own())), names="value")
    before = torch.get_rng_state()
    live.button.click()
    assert torch.equal(torch.get_rng_state(), before)
    # One epoch of pretraining, three of fusion.
    assert steps == [1, 2, 3, 4]
    assert live.progress.max == 4
    lengths = [len(places(own[-1])) for _, own in drawn]
    assert lengths == [0, 0, 1, 2, 3, 3]
    assert "epoch 3 of 4" in drawn[3][0]
    # The very run that the package trains.
    setting = replace(SETTING, rho=live.rho.value, beta=live.beta.value)
    run = train("mt+rollingq", data, setting=setting, seed=0)
    assert len(run.events) == 2, "with the setting's own beta there would be three"
    row = summarise("mt+rollingq", 0, run)
    assert live.said.startswith(
        f"Your run at ρ = 0.77, β = 0.12, seed 0: {len(run.events)} rotation"
    )
    assert f". Test accuracy {100 * row['accuracy'][0]:.1f} %, where" in live.said
    assert f"{row['share_normal']:.2f} to {row['share_noisy']:.2f}" in live.said
    airs = [epoch["air"] for epoch in run.result.history[1:]]
    ticks, _ = next(panels(live.picture.value))
    (y0, v0), *_, (y1, v1) = ticks
    heights = np.clip(np.interp(airs, [v0, v1], [y0, y1]), 0, 92)
    assert places(live.own()[-1])[:, 1] == pytest.approx(heights, abs=0.06)


def test_earlier_runs_stay_lightly(record):
    live = Live(TrainingMap(record, setting=SETTING, data=small_data()))
    live.button.click()
    (first,) = live.own()
    live.rho.value, live.beta.value = 10, 0.3
    live.button.click()
    assert live.own()[0] == first != live.own()[1]
    styles = re.findall(r'd="M[^"]*" fill="none" stroke="currentColor"( \S+)', live.picture.value)
    assert len([style for style in styles if "0.35" in style]) == 4


def test_what_goes_wrong_in_training_is_said(record):
    wild = replace(SETTING, training=replace(SETTING.training, lr=1e30))
    live = Live(TrainingMap(record, setting=wild, data=small_data()))
    live.button.click()
    assert live.said.startswith("Training stopped. ValueError: ")
    assert "finite" in live.said
    assert live.own() == []
    assert not live.button.disabled


def test_setting_t_is_trained_unless_told_otherwise(record):
    assert TrainingMap(record).setting == SETTINGS["T"]


@pytest.fixture(scope="module")
def pair(full, record):
    return TrainingMap(full), TrainingMap(record)


@pytest.fixture(scope="module")
def path(pair, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("map"), *pair)


@pytest.mark.browser
@pytest.mark.parametrize("move", MOVES)
def test_sliders_change_numbers_and_curves_as_the_package_does(browser, path, pair, move):
    chance = random.Random(0)
    with opened(browser, path) as (visit, (group, other)), untouched(other):
        before, shown = check_picture(group, pair[0])
        assert before == {"rho": 5, "beta": 2}
        for name in ("rho", "beta"):
            slider = group.locator(f"input[name={name}]")
            for _ in range(5):
                move(visit, slider, chance)
                after, now = check_picture(group, pair[0])
                assert {k for k in after if after[k] != before[k]} == {name}
                assert now.texts["readout"] != shown.texts["readout"]
                assert slider.get_attribute("aria-valuetext") == now.texts[name]
                if len({before["beta"], after["beta"]} & {8}) == 0:
                    assert now.paths["mean-air"] != shown.paths["mean-air"]
                before, shown = after, now


@pytest.mark.browser
def test_it_fits_a_phone_and_each_slider_has_a_name(browser, path):
    check_phone(browser, path, ("strength ρ", "threshold β"))
