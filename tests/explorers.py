"""Records for explorers, what a reader sees of an explorer, and how a reader moves its controls."""

import math
import random
import re
from contextlib import contextmanager
from html.parser import HTMLParser

from rollingq_core.explorer import GeometryExplorer, LoopExplorer, NoiseDial, TrainingMap
from rollingq_core.methods import DYNAMIC
from tests.browser import Visit

VIEW = "application/vnd.jupyter.widget-view+json"
LEVELS = [0, 0.25, 0.5, 0.75, 1.0]


def grid_record(rhos=(0.1, 1, 10), betas=(0, 0.1, 1), seeds=(0, 1), epochs=3):
    """Return a record of a sweep, as TrainingMap takes it; at the largest beta nothing turns."""
    chance = random.Random(0)

    def run(method, seed, cells):
        wave = chance.uniform(0.5, 2)

        def curve(low, high):
            steps = [math.sin(wave * epoch) * math.exp(-epoch / 9) for epoch in range(epochs)]
            return [round(low + (high - low) * (1 + step) / 2, 6) for step in steps]

        turns = chance.sample(range(epochs), min(3, epochs - 1))
        return {
            "method": method,
            "seed": seed,
            "cells": cells,
            "air": curve(-0.9, 0.9),
            "share": curve(0.4, 0.9),
            "query_norm": curve(3, 9),
            "validation_accuracy": curve(0.1, 0.9),
            "rotations": sorted(turns) if method == "mt+rollingq" else [],
            "accuracy": [round(chance.uniform(0.8, 0.9) - 0.5 * level, 6) for level in LEVELS],
            "share_normal": round(chance.uniform(0.7, 0.9), 6),
            "share_noisy": round(chance.uniform(0.5, 0.7), 6),
            "pearson": round(chance.uniform(-0.6, 0.1), 6),
        }

    runs, last = [], len(betas) - 1
    for seed in seeds:
        runs.append(run("mt", seed, [[i, last] for i in range(len(rhos))]))
        # Two points with the same rotations are one run.
        runs.append(run("mt+rollingq", seed, [[0, 0], [1, 0]]))
        others = [[i, j] for i in range(len(rhos)) for j in range(last) if (i, j) > (1, 0) or j]
        runs += [run("mt+rollingq", seed, [cell]) for cell in others]
    return {
        "recipe": "grid",
        "seeds": list(seeds),
        "rhos": list(rhos),
        "betas": list(betas),
        "levels": LEVELS,
        "runs": runs,
    }


def noise_record(seed=0, seeds=(100, 101, 102), methods=DYNAMIC):
    """Return a record of the comparison, as NoiseDial takes it."""
    chance = random.Random(seed)
    return {
        "seeds": list(seeds),
        "levels": LEVELS,
        "runs": [
            {
                "method": method,
                "seed": one,
                "accuracy": [chance.uniform(0.8, 0.9) - 0.5 * level for level in LEVELS],
                "shares": [chance.uniform(0.5, 0.9) - 0.1 * level for level in LEVELS],
            }
            for one in seeds
            for method in methods
        ],
    }


# One of each explorer.
MAKERS = {
    "geometry": GeometryExplorer,
    "loop": LoopExplorer,
    "dial": lambda: NoiseDial(noise_record()),
    "map": lambda: TrainingMap(grid_record()),
}


class Shown(HTMLParser):
    """What a reader of an explorer's HTML sees: texts and paths by name, numbers of the drawing."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.paths, self.drawing, self.label, self.open = {}, {}, [], "", None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.open = given.get("data-text")
        if tag == "svg":
            self.label = given["aria-label"]
        if "data-path" in given:
            self.paths.setdefault(given["data-path"], []).append(given["d"])
        moving = "data-arrow" in given or "data-tip" in given or "data-bar" in given
        for name in ("transform", "d", *(["width"] if moving else [])):
            numbers = re.findall(r"-?\d+\.\d+|\b[01]\b", given.get(name) or "")
            self.drawing += map(float, numbers)

    def handle_data(self, data):
        if self.open:
            self.texts[self.open] = data
            self.open = None


def write_page(folder, *explorers):
    """Write a page that holds these explorers and nothing else, and return its path."""
    bodies = "".join(explorer._repr_mimebundle_()["text/html"] for explorer in explorers)
    viewport = '<meta name="viewport" content="width=device-width">'
    path = folder / "page.html"
    path.write_text(f'<!doctype html><meta charset="utf-8">{viewport}{bodies}', encoding="utf-8")
    return path


def settings_of(group):
    """Return where the controls stand."""
    return group.evaluate(
        "g => Object.fromEntries("
        "[...g.querySelectorAll('input, select')].map(i => [i.name, +i.value]))"
    )


def _range(slider):
    low, high = (float(slider.get_attribute(name)) for name in ("min", "max"))
    return low, high, (float(slider.input_value()) - low) / (high - low)


def by_keyboard(visit, slider, chance):
    slider.focus()
    *_, now = _range(slider)
    # Away from the nearer end, so that each press moves.
    key = "ArrowRight" if now < 0.5 else "ArrowLeft"
    for _ in range(chance.randint(1, 9)):
        visit.page.keyboard.press(key)


def by_mouse(visit, slider, chance):
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    height = box["y"] + box["height"] / 2
    *_, now = _range(slider)
    # At least a quarter of the track away, or the value might stay.
    then = (now + chance.uniform(0.25, 0.75)) % 1
    visit.page.mouse.move(box["x"] + box["width"] * chance.random(), height)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] * then, height)
    visit.page.mouse.up()


# How a reader may move a slider.
MOVES = (by_keyboard, by_mouse)


def outside(page, width):
    """Return how many controls and texts of drawings stick out of a page of this width."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    return page.evaluate(
        "width => [...document.querySelectorAll('svg text, input, select')].filter(e => {"
        " const b = e.getBoundingClientRect(); return b.left < 0 || b.right > width; }).length",
        width,
    )


def faces_of(explorer, again):
    """Return an explorer's text and page, after looking that a page can stand anywhere.

    ``again`` is the same explorer, made anew: its page is the same to the letter.
    """
    bundle = explorer._repr_mimebundle_()
    assert bundle[VIEW]["model_id"] == explorer.widget().model_id
    page = bundle["text/html"]
    assert page == again._repr_mimebundle_()["text/html"]
    assert len(page.encode()) < 250_000
    assert not re.search(r"\s(id|src|href)=|https?:|url\(|import", page)
    return bundle["text/plain"], page


@contextmanager
def opened(browser, path):
    """Open a page of two explorers on a phone, and yield the visit and the two.

    In the end the page has loaded nothing else, and there was no error.
    """
    with Visit(browser, path, width=375) as visit:
        yield visit, visit.page.get_by_role("group").all()
        assert visit.requests == [path.as_uri()]
        assert not visit.errors


def check_picture(group, explorer):
    """Assert that the page shows what the package draws where its controls stand now."""
    settings = settings_of(group)
    expected, shown = Shown(explorer._picture(settings)), Shown(group.inner_html())
    assert expected.texts.items() <= shown.texts.items()
    assert shown.paths == expected.paths
    assert shown.label == expected.label
    return settings, shown


def check_phone(browser, path, titles):
    """Assert that both explorers fit a phone and have a slider of each title."""
    with opened(browser, path) as (visit, _):
        assert outside(visit.page, 375) == 0
        for title in titles:
            sliders = visit.page.get_by_role("slider", name=title)
            assert sliders.count() == 2
            assert sliders.first.is_enabled()


@contextmanager
def untouched(group):
    """Assert that what is done meanwhile to another explorer leaves this one as it is."""
    before = group.evaluate("g => g.outerHTML")
    yield
    assert group.evaluate("g => g.outerHTML") == before
