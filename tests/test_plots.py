"""Figures: what they show, and how they stand on a page."""

import inspect
import json
import re
from dataclasses import replace
from itertools import pairwise, product
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

from rollingq_core import anchor_weight, plots
from rollingq_core.evaluation import attention_contrast
from rollingq_core.evaluation.noise import LEVELS
from rollingq_core.plots import COLOURS, BookFigure
from rollingq_core.plots.phone import for_phone
from rollingq_core.plots.style import INK, looks_of
from rollingq_core.reproduce import RECIPES
from rollingq_core.reproduce.reports import summarise
from rollingq_core.runs import train
from rollingq_core.theory import FeedbackLoop, PathSizes
from tests.small import SETTING, small_data, small_model

METHODS = ("mt", "mt+rollingq", "uniform")
TITLE = "The finding"
BALANCE = [
    {"dim": dim, "cls_std": std, "sharpness": std, "mean": std / 9, "half": std / 8, "sd": std / 4}
    for dim in (4, 8)
    for std in (0.02, 1.0)
]
PATHS = [
    PathSizes(*torch.tensor([[0.7, 0.3], [2.0, 1.0], [3.0, 1.0], [4.0, 1.0]]) * k) for k in (1, 0.5)
]


PAIR = ("mt+rollingq", "mt")
GAINS = {"one − other": [(1.0, 0.5), (2.0, 3.0)], "other − third": [(-1.0, 0.5), (0.0, 1.0)]}


def small_regimes():
    """A record of regimes whose differences are known: 2 points a rotation, give or take seeds."""
    axes = {"cls_std": [0.1, 1.0], "visual_strength": [3.0, 2.0], "train_samples": [10, 20]}
    budgets = [1, 5]
    runs = [
        dict(zip(axes, values, strict=True))
        | {"method": method, "seed": seed, "max_rotations": budget}
        | {"accuracy": [0.9, 0.5 + 0.02 * (budget or 0) + 0.001 * seed * (budget == 1)]}
        for values in product(*axes.values())
        for seed in (1, 2, 3)
        for method, budget in (("mt", None), ("mt+rollingq", 1), ("mt+rollingq", 5))
    ]
    return axes | {"budgets": budgets, "levels": [0.0, 0.5], "runs": runs}


def by_place(runs):
    """A record of Table 11 with two places where the streams meet."""
    return {"runs": [run | {"variant": name} for name in ("late", "early") for run in runs]}


def watched(runs):
    """Runs with what the fusion answers from each modality alone after each epoch."""
    curves = {
        name: [{"audio": 0.7, "visual": value} for value in (0.2, 0.4)]
        for name in ("alone", "share")
    }
    return [run | {"history": curves} for run in runs]


def block_by_block():
    """The history of a stack of two blocks: a turn in the first, then the second comes into use."""
    common = {"stage": "fusion", "air": 0.5, "share": {"audio": 0.6, "visual": 0.3}}
    return [{"stage": "pretrain"}] + [
        common | {"block": block, "rotation": turn, "validation_accuracy": accuracy}
        for block, turn, accuracy in (
            (0, None, 0.5),
            (0, {"angle": 1.0}, 0.2),
            (1, None, 0.4),
            (1, None, 0.75),
        )
    ]


@pytest.fixture(scope="module")
def trained():
    setting = replace(SETTING, training=replace(SETTING.training, epochs=2))
    return {
        (method, seed): train(method, small_data(seed), setting=setting, seed=seed)
        for method in METHODS
        for seed in (101, 100)
    }


@pytest.fixture(scope="module")
def runs(trained):
    return [summarise(method, seed, run) for (method, seed), run in trained.items()]


@pytest.fixture(scope="module")
def tables(trained):
    """Rows of the noise tests by recipe."""
    return {
        recipe: [
            RECIPES[recipe].report(method, seed, run) | {"method": method, "seed": seed}
            for (method, seed), run in trained.items()
        ]
        for recipe in ("table2", "table3", "conflict", "calibration", "table8", "table9", "table10")
    }


@pytest.fixture(scope="module")
def drawn(trained, runs, tables):
    """One drawing of each figure function."""
    contrasts = {"a": attention_contrast(small_model(), small_data().test, "audio")}
    line = torch.linspace(-1, 1, 5)
    histories = {
        method: [trained[method, seed].result.history[1:] for seed in (100, 101)]
        for method in ("mt", "mt+rollingq")
    }
    vectors = {
        "audio": torch.tensor([1.0, 0.2]),
        "visual": torch.tensor([-0.3, 1.0]),
        "query": torch.tensor([2.0, 0.0]),
        "anchor": torch.tensor([1.0, 1.7]),
        "unscaled": torch.tensor([0.8, 1.3]),
    }
    grids = small_data()
    inputs = {name: values[:, None] for name, values in grids.train.inputs.items()}
    patch = {"audio": (4, 2), "visual": (1, 8)}
    grids = replace(grids, train=grids.train.with_inputs(**inputs), patch=patch)
    shares = torch.linspace(0, 1, 5)
    return {
        "alone_over_epochs": plots.alone_over_epochs(watched(runs), METHODS, "visual", TITLE),
        "averaged_dots": plots.averaged_dots({"a": {"runs": tables["table9"]}}, METHODS, TITLE),
        "counted_dots": plots.counted_dots(
            {"weights": {key: {"paper": 1, "alike": 2, "true": 3} for key in METHODS}}, TITLE
        ),
        "differences_by_method": plots.differences_by_method(
            {"a": {key: [(1.0, 0.5), (-2.0, 0.3)] for key in METHODS}}, (0.0, 0.5), TITLE
        ),
        "masked_dots": plots.masked_dots({"a": {"runs": tables["table8"]}}, METHODS, TITLE),
        "mediation": plots.mediation(
            runs,
            METHODS,
            {"share": lambda run: run["share_noisy"]},
            lambda run: 100 * run["accuracy"][-1],
            TITLE,
        ),
        "separation_dots": plots.separation_dots(
            {"a": {"runs": tables["table10"]}}, METHODS, ("mismatched", "noise"), "gen", TITLE
        ),
        "alpha_curves": plots.alpha_curves((1, 3), TITLE),
        "anchor_lengths": plots.anchor_lengths(90 * (line + 1), {"α = 0.5": shares}, TITLE),
        "calibration_curves": plots.calibration_curves(
            {"a": {"levels": LEVELS, "runs": tables["calibration"]}}, METHODS, TITLE
        ),
        "conflict_bars": plots.conflict_bars({"a": {"runs": tables["conflict"]}}, METHODS, TITLE),
        "cost_of_turn": plots.cost_of_turn([1, 2, 2], {"share": [[0.7, 0.9, 0.1]] * 2}, 2, TITLE),
        "deviation_angles": plots.deviation_angles({"a": 180 * shares, "b": shares}, TITLE),
        "detection_dots": plots.detection_dots({"a": {"runs": tables["table2"]}}, METHODS, TITLE),
        "run_curves": plots.run_curves(trained["mt+rollingq", 100].result.history, TITLE),
        "encoder_gradients": plots.encoder_gradients(runs, METHODS, 1, TITLE),
        "epoch_curves": plots.epoch_curves(runs, METHODS, 1, TITLE),
        "gains_by_set": plots.gains_by_set({"a": GAINS, "b": GAINS}, (0.0, 0.5), TITLE),
        "gradients_by_block": plots.gradients_by_block(by_place(runs), METHODS, TITLE),
        "interval_columns": plots.interval_columns(
            {"a": {"runs": runs, "levels": LEVELS}, "b": {"runs": runs, "levels": LEVELS}},
            "mt+rollingq",
            ("mt", "uniform"),
            (0.0, 1.0),
            TITLE,
        ),
        "initial_balance": plots.initial_balance(BALANCE, 8, TITLE),
        "key_distributions": plots.key_distributions(contrasts, TITLE),
        "keys_around_query": plots.keys_around_query(contrasts["a"].normal, 2.0, TITLE),
        "lean_over_epochs": plots.lean_over_epochs(histories, TITLE),
        "loop_portraits": plots.loop_portraits(
            {"a": FeedbackLoop(1.6, 0.04), "b": FeedbackLoop(0)}, TITLE, {"a": [np.eye(2)]}
        ),
        "mass_against_imbalance": plots.mass_against_imbalance(
            line, {"|q| = 1": shares}, torch.rand(3, 2), TITLE
        ),
        "accuracy_by_method": plots.accuracy_by_method(
            {"a": {"runs": runs}, "b": {"runs": runs}}, METHODS, TITLE
        ),
        "gain_by_detection": plots.gain_by_detection(
            {"a": ([0.4, 0.5], [1.0, 2.0]), "b": ([0.7, 0.6], [-1.0, 0.0])}, 0.5, TITLE
        ),
        "noise_grid": plots.noise_grid(
            {"levels": LEVELS, "runs": tables["table3"]}, METHODS, TITLE
        ),
        "noise_curves": plots.noise_curves(runs, LEVELS, METHODS, TITLE),
        "partial_products": plots.partial_products([-100 * shares], 1e-45, TITLE),
        "paths_over_epochs": plots.paths_over_epochs(PATHS, ["audio", "visual"], TITLE),
        "plane_of_turn": plots.plane_of_turn({"a": vectors}, TITLE),
        "regime_map": plots.regime_map(
            small_regimes(), plots.regime_differences(small_regimes(), *PAIR, 0.5), TITLE
        ),
        "sample_pairs": plots.sample_pairs(grids, [0, 1], TITLE),
        "share_against": plots.share_against(
            {"x": {"mt+rollingq": (line, shares)}}, (line, shares), TITLE
        ),
        "share_by_block": plots.share_by_block(by_place(runs), METHODS, TITLE),
        "share_paths": plots.share_paths({"a": np.full((3, 4), 0.5)}, TITLE),
        "share_distributions": plots.share_distributions(contrasts, TITLE),
        "shares_beside_keys": plots.shares_beside_keys(contrasts, TITLE),
        "stage_curves": plots.stage_curves(block_by_block(), TITLE),
        "token_attention": plots.token_attention(
            {"a": torch.tensor([0.25, 0.75])}, ["audio", "visual"], TITLE
        ),
        "turn_angles": plots.turn_angles({"a": 180 * shares}, TITLE),
        "wiring": plots.wiring("jmt", TITLE),
    }


def figure_functions():
    functions = {name: getattr(plots, name) for name in plots.__all__}
    return {
        name
        for name, function in functions.items()
        if inspect.isfunction(function)
        and inspect.signature(function).return_annotation in (Figure, "Figure")
    }


def test_each_figure_function_has_an_example_here(drawn):
    assert set(drawn) == figure_functions()


def test_each_figure_is_a_figure_with_its_finding_and_named_axes(drawn):
    for name, made in drawn.items():
        assert isinstance(made, Figure), name
        titles = [made.get_suptitle(), *(axis.get_title("left") for axis in made.axes)]
        titles += [axis.get_title() for axis in made.axes]
        assert TITLE in titles, name
        assert made.axes[0].get_ylabel() or not made.axes[0].axison, name
        assert made.get_size_inches()[0] == 6.4, name


@pytest.fixture(scope="module")
def pages(drawn):
    """Each figure as it stands on a page."""
    return {
        name: BookFigure(made, "caption", f'alt "of" {name} & <more>').svg()
        for name, made in drawn.items()
    }


def test_each_figure_is_an_image_with_a_text_for_those_who_cannot_see_it(pages):
    for name, svg in pages.items():
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert root.get("role") == "img"
        assert root.get("aria-label") == f'alt "of" {name} & <more>'


def test_text_takes_the_pages_colour(pages):
    for name, svg in pages.items():
        # Pictures, and hatches inside a coloured bar, lie on a ground of their own.
        lines = re.sub(r'href="data:[^"]*"|<pattern.*?</pattern>', "", svg, flags=re.DOTALL)
        assert "currentColor" in lines, name
        assert INK not in lines, name
        assert not re.search(r"(fill|stroke): (#000000|black|#ffffff|white)\b", lines), name
        # What names no colour is black.
        texts = [g for g in ElementTree.fromstring(svg).iter() if "-text_" in g.get("id", "")]
        assert len(texts) > 2, name
        for text in texts:
            assert any("fill: " in part.get("style", "") for part in text.iter()), name


def test_same_figure_gives_the_same_text(runs):
    def drawing():
        return BookFigure(plots.noise_curves(runs, LEVELS, METHODS, TITLE), "c", "alt")

    first = drawing()
    assert first.svg() == first.svg() == drawing().svg()
    assert first._repr_html_() == drawing()._repr_html_()
    assert repr(first) == "BookFigure('alt')"


def test_two_figures_share_no_id(drawn):
    ids = []
    for alt in ("one", "two"):
        svg = BookFigure(drawn["noise_curves"], "caption", alt).svg()
        own = re.findall(r'\bid="([^"]+)"', svg)
        assert len(own) == len(set(own)) > 10
        references = re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg)
        assert references
        assert set(references) <= set(own)
        ids.append(set(own))
    assert not ids[0] & ids[1]


def test_caption_is_escaped(drawn):
    html = BookFigure(drawn["alpha_curves"], "a < b & <script>", "alt")._repr_html_()
    assert "<figcaption>a &lt; b &amp; &lt;script&gt;</figcaption>" in html
    assert "<script>" not in html


@pytest.mark.parametrize(("caption", "alt"), [("", "alt"), ("caption", ""), ("caption", " \n")])
def test_empty_text_is_refused(drawn, caption, alt):
    with pytest.raises(ValueError, match="caption, alt: got an empty text, expected"):
        BookFigure(drawn["alpha_curves"], caption, alt)


def test_figures_are_not_left_open(drawn):
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


def test_colours_are_the_books():
    names = ("audio", "visual", "text", "query", "anchor", "noise")
    colours = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#7F7F7F")
    assert dict(zip(names, colours, strict=True)) == COLOURS


def test_methods_differ_in_more_than_colour():
    styles = plots.METHODS.values()
    lines = [(style["color"], style["linestyle"]) for style in styles]
    assert len(set(lines)) == len({style["marker"] for style in styles}) == len(lines)
    assert plots.METHODS["mt"]["linestyle"] == "--"
    assert plots.METHODS["mt+rollingq"]["linestyle"] == "-"


def renamed(content):
    """The same record of a model whose modalities have names that the book does not know."""
    text = json.dumps(content).replace("audio", "radar").replace("visual", "camera")
    return json.loads(text)


def texts_of(made):
    """All that a figure says."""
    made.draw_without_rendering()
    return " ".join(text.get_text() for text in made.findobj(Text))


def test_figures_of_records_take_the_names_of_the_modalities_from_them(trained, runs, tables):
    named = renamed(runs)
    history = renamed(trained["mt+rollingq", 100].result.history)
    pair = ("radar", "camera")
    contrast = attention_contrast(small_model(), small_data().test, "visual")
    contrast = contrast._replace(modality="camera", modalities=pair)
    drawn = [
        plots.run_curves(history, TITLE),
        plots.encoder_gradients(named, METHODS, 1, TITLE),
        plots.epoch_curves(named, METHODS, 1, TITLE, pair),
        plots.lean_over_epochs({"mt+rollingq": [history[1:]] * 2}, TITLE),
        plots.noise_grid({"levels": LEVELS, "runs": renamed(tables["table3"])}, METHODS, TITLE),
        plots.keys_around_query(contrast.normal, 2.0, TITLE, modalities=pair),
        *(
            draw({"a": contrast}, TITLE)
            for draw in (plots.key_distributions, plots.shares_beside_keys)
        ),
    ]
    for made in drawn:
        said = texts_of(made)
        assert "radar" in said
        assert "camera" in said
        assert "audio" not in said
        assert "visual" not in said
    conflicts = [
        {"a": {"runs": rows}} for rows in (tables["conflict"], renamed(tables["conflict"]))
    ]
    known, other = (plots.conflict_bars(record, METHODS, TITLE) for record in conflicts)
    widths = [[bar.get_width() for bar in made.axes[0].patches] for made in (known, other)]
    assert widths[0] == widths[1]
    table = plots.accuracy_table(named, LEVELS, METHODS, "caption", "radar")
    assert "radar share" in table.header


def test_modalities_that_the_book_does_not_know_differ_too():
    looks = looks_of(["depth", "text", "radar", "touch"])
    assert looks["text"] == looks_of(["text"])["text"]
    for trait in ("color", "linestyle", "marker", "hatch"):
        assert len({look[trait] for look in looks.values()}) == 4


def test_noise_curves_draw_mean_and_interval(runs):
    made = plots.noise_curves(runs, LEVELS, ["mt+rollingq"], TITLE)
    accuracy = 100 * np.array([r["accuracy"] for r in runs if r["method"] == "mt+rollingq"])
    container = made.axes[0].containers[0]
    np.testing.assert_allclose(container.lines[0].get_ydata(), accuracy.mean(0))
    half = stats.t.ppf(0.975, 1) * accuracy.std(0, ddof=1) / np.sqrt(2)
    bars = np.array(container.lines[2][0].get_segments())
    np.testing.assert_allclose(bars[:, 1, 1] - bars[:, 0, 1], 2 * half, atol=1e-9)


def test_run_curves_draw_fusion_and_mark_the_rotations(trained):
    history = trained["mt+rollingq", 100].result.history
    made = plots.run_curves(history, TITLE)
    fused = [record for record in history if record["stage"] == "fusion"]
    assert len(fused) == len(history) - 1
    curves = [
        [r["air"] for r in fused],
        [r["share"]["audio"] for r in fused],
        [100 * r["train_accuracy"] for r in fused],
    ]
    turned = [r["epoch"] + 1 for r in fused if r["rotation"]]
    assert turned
    for axis, curve in zip(made.axes, curves, strict=True):
        assert list(axis.lines[0].get_xdata()) == [r["epoch"] + 1 for r in fused]
        np.testing.assert_allclose(axis.lines[0].get_ydata(), curve)
        marks = [
            line.get_xdata()[0] for line in axis.lines if line.get_color() == COLOURS["anchor"]
        ]
        assert marks == turned
    assert made.axes[2].lines[1].get_ydata()[-1] == 100 * fused[-1]["validation_accuracy"]


def test_epoch_curves_draw_the_mean_from_the_start_of_fusion(runs):
    made = plots.epoch_curves(runs, ["mt"], 1, TITLE)
    found = [r["history"] for r in runs if r["method"] == "mt"]
    ratios = [[g["visual"] / g["audio"] for g in h["gradient_norm"][1:]] for h in found]
    expected = [
        np.mean([h["air"] for h in found], 0),
        np.mean([[s["audio"] for s in h["share"]] for h in found], 0),
        np.mean([h["query_norm"] for h in found], 0),
        np.mean(ratios, 0),
    ]
    for axis, curve in zip(made.axes, expected, strict=True):
        np.testing.assert_allclose(axis.lines[0].get_ydata(), curve)
        np.testing.assert_allclose(axis.lines[0].get_xdata(), [1, 2])


def test_alpha_curves_draw_equation_11():
    line = plots.alpha_curves((3,), TITLE).axes[0].lines[0]
    x, y = line.get_data()
    np.testing.assert_allclose(y, [anchor_weight(value, 3) for value in x])
    assert all(later < earlier for earlier, later in pairwise(y))


def test_turn_angles_count_every_eigenvalue():
    angles = torch.tensor([0.0, 0.0, 5.0, 90.0, 90.0, 180.0])
    bars = plots.turn_angles({"a": angles}, TITLE).axes[0].patches
    heights = {round(bar.get_x()): bar.get_height() for bar in bars if bar.get_height()}
    assert heights == {0: 3, 90: 2, 170: 1}


def test_anchor_lengths_draw_each_line():
    angles, lengths = torch.tensor([0.0, 90.0, 180.0]), torch.tensor([1.0, 0.7, 0.0])
    made = plots.anchor_lengths(angles, {"α = 0.5": lengths, "α = 0.05": 1 - lengths / 9}, TITLE)
    first, second, query = made.axes[0].lines
    np.testing.assert_allclose(first.get_data(), [angles, lengths])
    assert first.get_linestyle() != second.get_linestyle()
    assert set(query.get_ydata()) == {1}


def test_partial_products_mark_the_smallest_number():
    made = plots.partial_products([torch.tensor([-1.0, -60.0, 0.0])], 2.0**-149, TITLE)
    line, floor = made.axes[0].lines
    np.testing.assert_allclose(line.get_data(), [[1, 2, 3], [-1, -60, 0]])
    np.testing.assert_allclose(floor.get_ydata(), np.log10(2.0**-149))


def test_differences_of_regimes_are_paired_and_in_points():
    found = plots.regime_differences(small_regimes(), *PAIR, 0.5)
    assert len(found) == 16
    for (*_, budget), (mean, half) in found.items():
        # At budget 1 seeds 1, 2, 3 add 0.1, 0.2, 0.3 points.
        assert mean == pytest.approx(2 * budget + (0.2 if budget == 1 else 0))
        assert half == pytest.approx(0.1 * stats.t.ppf(0.975, 2) / 3**0.5 if budget == 1 else 0)


def test_a_tile_has_a_number_only_where_the_interval_excludes_zero():
    record = small_regimes()
    differences = plots.regime_differences(record, *PAIR, 0.5)
    differences[0.1, 3.0, 10, 1] = (2.0, 2.5)
    made = plots.regime_map(record, differences, TITLE)
    written = [text.get_text() for axis in made.axes[:4] for text in axis.texts]
    assert written[0] == "·"
    assert written[1:] == ["+2.2", "+10.0", "+10.0"] + 3 * ["+2.2", "+2.2", "+10.0", "+10.0"]


def test_encoder_gradients_draw_geometric_means(runs):
    made = plots.encoder_gradients(runs, ["mt"], 1, TITLE)
    found = [r["history"]["gradient_norm"] for r in runs if r["method"] == "mt"]
    for line, name in zip(made.axes[0].lines, ("audio", "visual"), strict=False):
        norms = np.array([[epoch[name] for epoch in run] for run in found])
        np.testing.assert_allclose(line.get_ydata(), np.sqrt(norms[0] * norms[1]))
        np.testing.assert_allclose(line.get_xdata(), [1, 2, 3])


def test_loop_portraits_mark_fixed_points_and_the_boundary():
    loop = FeedbackLoop(1.6, 0.04)
    axis = plots.loop_portraits({"a": loop}, TITLE).axes[0]
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    for dot, point in zip(dots, loop.fixed_points(), strict=True):
        share = (1 + np.tanh(point.lean)) / 2
        np.testing.assert_allclose(np.ravel(dot.get_data()), [share, point.gap])
        assert (dot.get_markerfacecolor() == "none") != point.stable
    (edge,) = [line for line in axis.lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(edge.get_ydata(), loop.boundary()[:, 1])


def test_paths_over_epochs_draw_ratios():
    left, right = plots.paths_over_epochs(PATHS, ["audio", "visual"], TITLE).axes
    np.testing.assert_allclose(right.lines[0].get_ydata(), [7 / 3, 7 / 3], rtol=1e-6)
    assert [line.get_ydata()[0] for line in right.lines[1:3]] == [2, 3]
    # Audio's value and key path, then vision's.
    np.testing.assert_allclose(
        [line.get_ydata() for line in left.lines], [[2, 1], [3, 1.5], [1, 0.5], [1, 0.5]]
    )


def test_tables_of_values_say_mean_spread_and_what_is_missing():
    rows = [
        {"method": method, "seed": seed, "x": value, "y": None}
        for method, values in {"mt": (0.1, 0.3), "mt+rollingq": (0.2, 0.6)}.items()
        for seed, value in enumerate(values)
    ]
    columns = {"x": lambda run: run["x"], "y": lambda run: run["y"]}
    records = {"a": {"runs": rows}, "b": {"runs": rows[:3]}}
    made = plots.values_by_set(records, ("mt", "mt+rollingq"), columns, "caption")
    assert made.header == ["mean ± sd", "a", "b"]
    assert made.rows == [
        ["x: vanilla", "0.20 ± 0.14", "0.20 ± 0.14"],
        ["x: RollingQ", "0.40 ± 0.28", "none"],
        ["y: vanilla", "none", "none"],
        ["y: RollingQ", "none", "none"],
    ]
    only = {"a": records["a"]}
    made = plots.differences_by_set(only, [PAIR], {"x": columns["x"]}, "caption", digits=1)
    assert made.rows == [["x: RollingQ − vanilla", f"+0.2 ± {0.1 * stats.t.ppf(0.975, 1):.1f}"]]


def test_shares_stand_beside_the_keys_that_made_them():
    contrast = attention_contrast(small_model(), small_data().test, "audio")
    left, right = plots.shares_beside_keys({"a": contrast}, TITLE, every=2).axes
    means = [line.get_xdata()[0] for line in left.lines]
    np.testing.assert_allclose(means, [share.mean() for share in contrast.share])
    drawn = {marks.get_label(): marks.get_offsets() for marks in right.collections}
    assert list(drawn) == ["visual", "audio", "audio is noise"]
    sources = ((contrast.normal, 1), (contrast.normal, 0), (contrast.noisy, 0))
    for marks, (answers, index) in zip(drawn.values(), sources, strict=True):
        expected = torch.stack((answers.cosines, answers.key_norms), 2)[::2, index]
        np.testing.assert_allclose(marks, expected, rtol=1e-6)


def test_calibration_curves_draw_errors_above_reliability(tables):
    record = {"levels": LEVELS, "runs": tables["calibration"]}
    made = plots.calibration_curves({"a": record, "b": record}, ["mt+rollingq"], TITLE)
    upper, *_, lower = made.axes
    runs = [run for run in tables["calibration"] if run["method"] == "mt+rollingq"]
    errors = upper.containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(errors, np.mean([run["ece"] for run in runs], 0))
    bins = np.array([run["reliability"][-1] for run in runs])
    confidence, accuracy = lower.lines[0].get_data()
    # Weighted by their part, the bins give back the mean confidence and accuracy.
    part = bins[..., 0].sum(0)
    assert len(confidence) == (part > 0.02).sum()
    biggest = part.argmax()
    place = (part[:biggest] > 0.02).sum()
    for drawn, column in ((confidence, 1), (accuracy, 2)):
        value = (bins[:, biggest, 0] * bins[:, biggest, column]).sum() / part[biggest]
        assert drawn[place] == pytest.approx(value)


def columns_of(made):
    return {axis.get_subplotspec().colspan.start for axis in made.axes if axis.get_subplotspec()}


@pytest.fixture(scope="module")
def narrowed(drawn):
    """Return each figure as it is for a phone, and as it was before and after."""

    def told(made):
        return made.get_size_inches().tolist(), [axis.get_title() for axis in made.axes]

    return {
        name: (told(made), for_phone(made), told(made), len(made.axes))
        for name, made in drawn.items()
    }


def test_a_phone_gets_the_panels_one_below_another(narrowed):
    side_by_side = {"noise_grid", "regime_map"}
    for name, (before, narrow, after, panels) in narrowed.items():
        assert narrow.get_size_inches()[0] < 4, name
        assert len(narrow.axes) == panels, name
        assert len(columns_of(narrow)) == 1 or name in side_by_side, name
        assert before == after, name


def test_on_a_phone_no_text_is_cut_off(narrowed):
    for name, (_, narrow, *_) in narrowed.items():
        narrow.draw_without_rendering()
        page = narrow.bbox
        for axis in narrow.axes:
            for text in (axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label):
                box = text.get_window_extent()
                if text.get_text():
                    assert -2 < box.x0 < box.x1 < page.x1 + 2, (name, text.get_text())


def test_each_panel_of_a_stack_has_its_own_labels_and_numbers(drawn):
    upper, *_, last = for_phone(drawn["epoch_curves"]).axes
    assert upper.get_xlabel() == last.get_xlabel() == "epoch of fusion"
    assert all(label.get_visible() for label in upper.get_xticklabels())
    left, right = for_phone(drawn["interval_columns"]).axes
    assert left.get_ylabel() == right.get_ylabel() != ""
    assert [t.get_text() for t in right.get_yticklabels()] == ["a", "b"]


def test_long_titles_are_broken_into_lines_of_about_equal_length():
    with plots.figure(1, 2) as (made, axes):
        axes[0].set_ylabel("y")
        made.suptitle("A title that says in many words what the two panels show together")
    lines = for_phone(made).get_suptitle().split("\n")
    assert len(lines) == 2
    assert abs(len(lines[0]) - len(lines[1])) < 12
    assert "\n" not in made.get_suptitle()


def test_both_faces_stand_on_the_page_and_share_no_id(drawn):
    html = BookFigure(drawn["epoch_curves"], "caption", "alt")._repr_html_()
    assert re.findall(r'<svg [^>]*class="(\w+)"', html) == ["wide", "narrow"]
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    references = re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)
    assert set(references) <= set(ids)


def test_stage_curves_mark_turns_and_the_next_block():
    made = plots.stage_curves(block_by_block(), TITLE)
    accuracy = made.axes[-1]
    curve, *lines = accuracy.get_lines()
    assert curve.get_xydata().tolist() == [[1, 50], [2, 20], [3, 40], [4, 75]]
    marked = {line.get_linestyle(): line.get_xdata()[0] for line in lines}
    assert marked == {":": 2, "-": 2.5}


def test_deviation_angles_count_all_queries():
    made = plots.deviation_angles({"a": torch.tensor([1.0, 2, 3, 179])}, TITLE)
    (steps,) = made.axes[0].patches
    values = steps.get_data().values
    assert (values[0], values[-1], values.sum()) == (75, 25, 100)


def test_gains_by_set_stand_in_the_row_of_their_pair():
    made = plots.gains_by_set({"a": GAINS}, (0.0, 0.5), TITLE)
    (axis,) = made.axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    clean, noisy = axis.containers
    assert [clean.get_label(), noisy.get_label()] == ["clean", "noise 0.5"]
    for drawn, row in ((clean, 0), (noisy, 1)):
        for name, place, (x, y) in zip(
            names, axis.get_yticks(), drawn.lines[0].get_xydata(), strict=True
        ):
            assert x == GAINS[name][row][0]
            assert abs(y - place) < 0.4


def test_shares_by_block_are_means_over_seeds_in_a_panel_a_place(runs):
    made = plots.share_by_block(by_place(runs), ["mt"], TITLE, "visual")
    assert [axis.get_title() for axis in made.axes] == ["late", "early"]
    own = [run["history"]["share"] for run in runs if run["method"] == "mt"]
    expected = np.mean([[epoch["visual"] for epoch in share] for share in own], axis=0)
    for axis in made.axes:
        np.testing.assert_allclose(axis.get_lines()[0].get_ydata(), expected)


def test_gradients_by_block_leave_pretraining_out(runs):
    made = plots.gradients_by_block(by_place(runs), ["mt", "mt+rollingq"], TITLE)
    curves = {line.get_label(): line for line in made.axes[1].get_lines()}
    assert list(curves)[0::2] == ["audio, vanilla", "audio, RollingQ"]
    own = [run["history"] for run in runs if run["method"] == "mt"]
    norms = [h["gradient_norm"][-len(h["share"]) :] for h in own]
    assert len(own[0]["gradient_norm"]) > len(norms[0])
    expected = np.exp(np.mean(np.log([[e["audio"] for e in run] for run in norms]), axis=0))
    np.testing.assert_allclose(curves["audio, vanilla"].get_ydata(), expected)
