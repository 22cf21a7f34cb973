"""What the figures of masks, averages, outsiders and causes show is what their records hold."""

import numpy as np
import pytest

from rollingq_core import plots
from rollingq_core.plots.phone import for_phone
from rollingq_core.plots.style import COLOURS
from rollingq_core.statistics import mean_interval

TITLE = "A finding"


def points(axis, colour=None, marker=None):
    """Places of all dots of a panel, those of a colour and a marker where they are named."""
    return [
        (float(x), float(y))
        for line in axis.lines
        if line.get_marker() not in ("None", None, "", "|", "_")
        and (colour is None or line.get_color() == colour)
        and (marker is None or line.get_marker() == marker)
        for x, y in zip(*line.get_data(), strict=True)
    ]


def masked(method, seed, audio, visual, whole=0.9):
    return {
        "method": method,
        "seed": seed,
        "accuracy": whole,
        "alone": {"audio": audio, "visual": visual},
    }


def test_masked_dots_show_the_mean_of_each_modality_alone_in_its_colour():
    runs = [
        masked("mt", 0, 0.8, 0.2),
        masked("mt", 1, 0.6, 0.4),
        masked("mt+rollingq", 0, 0.7, 0.5),
        masked("mt+rollingq", 1, 0.7, 0.5),
    ]
    (axis,) = plots.masked_dots({"a": {"runs": runs}}, ["mt", "mt+rollingq"], TITLE).axes
    for modality, (vanilla, turned) in {"audio": (70, 70), "visual": (30, 50)}.items():
        above, below = sorted(points(axis, COLOURS[modality]), key=lambda point: -point[1])
        assert (above[0], below[0]) == (pytest.approx(vanilla), pytest.approx(turned))
        assert above[1] - below[1] == pytest.approx(1)  # a row each, the first one above
    assert [label.get_text() for label in axis.get_yticklabels()] == ["vanilla", "RollingQ"]


def test_masked_dots_take_the_accuracy_without_noise_from_a_list_by_level():
    runs = [masked("mt", seed, 0.7, 0.5, whole=[0.9, 0.4]) for seed in (0, 1)]
    (axis,) = plots.masked_dots({"a": {"runs": runs}}, ["mt"], TITLE).axes
    assert [x for x, _ in points(axis, marker="D")] == [pytest.approx(90)]


def test_averaged_dots_show_what_each_average_costs():
    runs = [
        {
            "method": "mt2",
            "seed": seed,
            "accuracy": 0.9,
            "unimodal": 0.8,
            "crossmodal": 0.9,
            "average": {"audio": 0.6, "visual": 0.95},
        }
        for seed in (0, 1)
    ]
    (axis,) = plots.averaged_dots({"a": {"runs": runs}}, ["mt2"], TITLE).axes
    shown = sorted(points(axis), key=lambda point: -point[1])
    assert [x for x, _ in shown] == pytest.approx([-10, 0, -30, 5])
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["unimodal", "crossmodal", "over audio", "over visual"]


def test_separation_dots_leave_out_what_a_record_lacks():
    runs = [
        {"method": "mt", "seed": seed, "auroc": {"noise gen": 0.8, "noise energy": 0.1}}
        for seed in (0, 1)
    ]
    made = plots.separation_dots({"a": {"runs": runs}}, ["mt"], ("near", "noise"), "gen", TITLE)
    assert points(made.axes[0]) == [(pytest.approx(0.8), -1)]


def test_differences_by_method_keep_methods_in_rows_and_levels_in_order():
    found = {"mt+away": [(1.0, 0.5), (3.0, 1.0)], "uniform": [(-2.0, 0.5), (4.0, 1.0)]}
    (axis,) = plots.differences_by_method({"a": found}, (0.0, 0.5), TITLE).axes
    rows = {}
    for x, y in points(axis):
        rows.setdefault(round(y), []).append((y, x))
    assert [x for _, x in sorted(rows[1], reverse=True)] == [1, 3]
    assert [x for _, x in sorted(rows[0], reverse=True)] == [-2, 4]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["away, same angle", "uniform"]


def test_mediation_shows_a_dot_for_each_run_and_cause():
    runs = [
        {"method": "mt", "seed": seed, "share": 0.1 * seed, "accuracy": 50 + seed}
        for seed in range(3)
    ]
    causes = {"share": lambda run: run["share"], "twice": lambda run: 2 * run["share"]}
    made = plots.mediation(runs, ["mt"], causes, lambda run: run["accuracy"], TITLE)
    for axis, factor in zip(made.axes, (1, 2), strict=True):
        (dots,) = axis.collections
        wanted = [(factor * 0.1 * seed, 50 + seed) for seed in range(3)]
        np.testing.assert_allclose(dots.get_offsets(), wanted)
    assert [axis.get_xlabel() for axis in made.axes] == ["share", "twice"]


def test_alone_over_epochs_shows_means_intervals_and_turns():
    runs = [
        {
            "method": "mt+rollingq",
            "seed": seed,
            "events": [{"epoch": 1}],
            "history": {
                "alone": [{"visual": value} for value in values],
                "share": [{"visual": 0.5}] * 3,
            },
        }
        for seed, values in enumerate(([0.1, 0.2, 0.6], [0.3, 0.2, 0.8]))
    ]
    above, below = plots.alone_over_epochs(runs, ["mt+rollingq"], "visual", TITLE).axes
    (curve,) = (line for line in above.lines if line.get_color() != COLOURS["anchor"])
    np.testing.assert_allclose(curve.get_data(), [[1, 2, 3], [20, 20, 70]])
    (band,) = above.collections
    mean, half = mean_interval([60, 80])
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(mean + half)
    for axis in (above, below):
        (turn,) = (line for line in axis.lines if line.get_color() == COLOURS["anchor"])
        assert list(turn.get_xdata()) == [2, 2]


def test_counted_dots_show_each_count_of_each_method():
    counts = {
        "weights": {
            "mt": {"paper": 10.0, "alike": 10.0, "true": 12.0},
            "mult": {"paper": 20.0, "alike": 20.0, "true": 25.0},
        }
    }
    (axis,) = plots.counted_dots(counts, TITLE).axes
    assert sorted(points(axis)) == [
        (10, 1), (10, 1), (12, pytest.approx(0.85)),
        (20, 0), (20, 0), (25, pytest.approx(-0.15)),
    ]  # fmt: skip
    assert axis.get_xlim()[0] == 0


def test_a_phones_legend_has_what_any_panel_has():
    two = [masked("mt", seed, 0.7, 0.5) for seed in (0, 1)]
    three = [run | {"alone": {**run["alone"], "text": 0.6}} for run in two]
    made = plots.masked_dots({"a": {"runs": two}, "b": {"runs": three}}, ["mt"], TITLE)
    (legend,) = for_phone(made).legends
    said = {text.get_text() for text in legend.get_texts()}
    assert said == {"all", "audio alone", "visual alone", "text alone"}


def test_a_phones_legend_is_no_wider_than_the_page():
    methods = ["mt2+random_matched", "mult+random_matched", "mmml+random_matched"]
    runs = [masked(method, seed, 0.7, 0.5) for method in methods for seed in (0, 1)]
    runs = [run | {"unimodal": 0.8, "crossmodal": 0.8, "average": {"audio": 0.6}} for run in runs]
    narrow = for_phone(plots.averaged_dots({"a": {"runs": runs}}, methods, TITLE))
    narrow.draw_without_rendering()
    (legend,) = narrow.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= narrow.bbox.width
    assert len(legend.get_texts()) == 3


def test_gain_by_detection_shows_the_means_of_each_set_and_their_intervals():
    sets = {"a": ([0.4, 0.6], [1.0, 3.0]), "b": ([0.7, 0.9], [-1.0, -3.0])}
    (axis,) = plots.gain_by_detection(sets, 0.5, TITLE).axes
    for (xs, ys), marker in zip(sets.values(), "os", strict=True):
        assert points(axis, marker=marker) == [(pytest.approx(np.mean(xs)), np.mean(ys))]
    spans = [path for lines in axis.collections for path in lines.get_paths()]
    widths = sorted(np.ptp(path.vertices[:, 0]) for path in spans)
    assert widths[-1] == pytest.approx(2 * mean_interval([0.4, 0.6])[1])
    assert {text.get_text() for text in axis.figure.legends[0].get_texts()} == {"a", "b"}


def test_noise_grid_draws_the_mechanisms_that_are_asked_for():
    runs = [
        {"method": "mt", "seed": seed}
        | {f"{kind} {who}": [0.9, level] for kind, level in rates.items() for who in ("a", "both")}
        for seed in (0, 1)
        for rates in [{"mix": 0.5, "zeros": 0.2, "offset": 0.1}]
    ]
    record = {"levels": [0, 1], "runs": runs}
    drawn = plots.noise_grid(record, ["mt"], TITLE, ("zeros", "offset"))
    ends = [points(axis)[-1] for axis in drawn.axes]
    assert [round(y) for _, y in ends] == [20, 20, 10, 10]
    assert [axis.get_ylabel() for axis in drawn.axes[::2]] == [
        "missing\naccuracy, %",
        "shifted, then\nmissing\naccuracy, %",
    ]
