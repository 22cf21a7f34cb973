"""Tables, and the means, intervals and paired differences that stand in them."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rollingq_core import plots
from rollingq_core import statistics as over_seeds
from rollingq_core.tables import Table


def run(method, seed, *accuracy):
    return {"method": method, "seed": seed, "accuracy": list(accuracy)}


PAIRS = [
    run("mt+rollingq", 2, 0.80, 0.5),
    run("mt+rollingq", 1, 0.90, 0.6),
    run("mt+rollingq", 3, 0.70, 0.4),
    run("mt", 1, 0.80, 0.5),
    run("mt", 3, 0.60, 0.4),
    run("mt", 2, 0.75, 0.5),
]


def clean(row):
    return row["accuracy"][0]


def test_paired_difference_by_hand():
    # .1, .05, .1: mean 1/12, sd .0288675, t(.975; 2) = 4.302653.
    mean, half = over_seeds.paired_difference(PAIRS, "mt+rollingq", "mt", clean)
    assert mean == pytest.approx(1 / 12)
    assert half == pytest.approx(4.302653 * 0.0288675 / 3**0.5, abs=1e-6)
    back, same = over_seeds.paired_difference(PAIRS, "mt", "mt+rollingq", clean)
    assert (back, same) == pytest.approx((-mean, half))


def test_difference_needs_the_same_seeds():
    with pytest.raises(ValueError, match=re.escape("seeds of 'mt+rollingq' and 'mt' differ")):
        over_seeds.paired_difference(PAIRS[:-1], "mt+rollingq", "mt", lambda r: 0.0)


def test_difference_table_holds_points():
    table = plots.difference_table(PAIRS, (0.0, 0.5), [("mt+rollingq", "mt")], "caption")
    assert table.header == ["difference", "noise 0", "noise 0.5"]
    # Second column: .1, 0, 0: mean 1/30, half width 4.302653 * .0577350 / sqrt 3.
    assert table.rows == [["RollingQ − vanilla", "+8.3 ± 7.2", "+3.3 ± 14.3"]]


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12).filter(lambda x: np.ptp(x) > 1e-3))
def test_interval_equals_scipys(values):
    mean, half = over_seeds.mean_interval(values)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx(tuple(interval), abs=1e-9)


def test_accuracy_table_by_hand():
    rows = [
        {
            **run("uniform", seed, accuracy),
            "share_normal": 0.5,
            "share_noisy": noisy,
            "pearson": 0.0,
        }
        for seed, accuracy, noisy in ((1, 0.5, 0.25), (2, 0.6, 0.35))
    ]
    rows += [{**row, "method": "mt+rollingq", "pearson": -0.5} for row in rows]
    table = plots.accuracy_table(rows, (0.5,), ("uniform", "mt+rollingq"), "caption")
    assert table.header == ["method", "noise 0.5", "audio share", "correlation"]
    assert table.rows == [
        ["uniform", "55.0 ± 7.1", "0.50 → 0.30", "none"],
        ["RollingQ", "55.0 ± 7.1", "0.50 → 0.30", "−0.50"],
    ]


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [(1.25, 0.5, "+1.2 ± 0.5*"), (-0.3, 0.5, "−0.3 ± 0.5 "), (-2.0, 0.5, "−2.0 ± 0.5*")],
)
def test_a_star_says_that_the_interval_leaves_0_out(mean, half, said):
    assert over_seeds.starred(mean, half) == said


def test_the_figures_room_hands_them_on():
    names = ("mean_interval", "paired_difference", "of_method", "signed", "starred")
    for name in names:
        assert getattr(plots, name) is getattr(over_seeds, name)
    assert plots.Table is Table


TABLE = Table(["method", "accuracy"], [["a", "1.0"], ["longer", "10.0"]], "n < 3")


def test_table_as_text_is_aligned():
    assert repr(TABLE) == "method  accuracy\na            1.0\nlonger      10.0"


def test_table_on_a_page_has_headers_and_numbers_to_the_right():
    html = TABLE._repr_html_()
    root = ElementTree.fromstring(html.replace("scope=col", 'scope="col"'))
    head, *body = root.iter("tr")
    assert [cell.tag for cell in head] == ["th", "th"]
    assert [[cell.text for cell in row] for row in body] == TABLE.rows
    for row in (head, *body):
        assert row[0].tag == "th"
        assert "text-align:left" in row[0].get("style")
        assert all("text-align:right" in cell.get("style") for cell in row[1:])
    assert {row[0].get("scope") for row in body} == {"row"}
    assert {cell.get("scope") for cell in head} == {"col"}
    assert root.find(".//caption").text == "n < 3"
    assert html == TABLE._repr_html_()


def test_cells_are_escaped():
    html = Table(["p < .05", "b"], [["<b>x</b>", "a & b"]], "caption")._repr_html_()
    assert "<b>" not in html
    cells = [cell.text for cell in ElementTree.fromstring(html).iter() if cell.tag in ("th", "td")]
    assert cells == ["p < .05", "b", "<b>x</b>", "a & b"]


def test_table_refuses_a_ragged_row():
    with pytest.raises(ValueError, match="rows: got a row of 1 cells, expected 2"):
        Table(["a", "b"], [["1", "2"], ["1"]], "caption")


def cells_by_row(table):
    rows = ElementTree.fromstring(table._repr_html_()).iter("tr")
    return [["".join(cell.itertext()) for cell in row] for row in rows]


@given(others=st.integers(1, 20))
def test_a_wide_table_is_cut_into_blocks_of_at_most_five_columns(others):
    header = ["title", *(f"c{i}" for i in range(others))]
    table = Table(header, [["a", *(f"{i}.0" for i in range(others))]], "caption")
    rows = cells_by_row(table)
    assert max(map(len, rows)) <= 5
    heads, bodies = rows[::2], rows[1::2]
    # Nothing is lost, and each block says again what its rows and columns are.
    assert [cell for row in heads for cell in row[1:]] == header[1:]
    assert [cell for row in bodies for cell in row[1:]] == table.rows[0][1:]
    assert {row[0] for row in heads} == {"title"}
    assert {row[0] for row in bodies} == {"a"}


def test_a_spread_is_lighter_and_may_stand_on_a_line_of_its_own():
    table = Table(["mean ± sd", "x"], [["a ± b", "−1.0 ± 0.2"]], "caption")
    html = table._repr_html_()
    assert cells_by_row(table) == [["mean ± sd", "x"], ["a ± b", "−1.0 ± 0.2"]]
    (spread,) = [e for e in ElementTree.fromstring(html).iter("span") if e.get("class") == "sd"]
    assert spread.text == "± 0.2"
    assert "font-weight:300" in spread.get("style")


def test_words_stand_at_the_left_and_quoted_numbers_in_italics():
    table = Table(["", "paper", "yours", "where"], [["a", "1", "2", "here"]], "c", ["paper"])
    (body,) = list(ElementTree.fromstring(table._repr_html_()).iter("tbody"))
    _, paper, yours, where = (cell.get("style") for cell in body[0])
    assert ("italic" in paper, "italic" in yours) == (True, False)
    assert ("text-align:right" in yours, "text-align:left" in where) == (True, True)


def test_a_caption_has_normal_weight_and_the_colour_of_the_text():
    (caption,) = ElementTree.fromstring(TABLE._repr_html_()).iter("caption")
    assert "font-weight:normal;color:inherit" in caption.get("style")


def test_p_value_and_interval_agree_on_what_is_clear():
    draw = np.random.default_rng(0)
    verdicts = set()
    for shift in np.linspace(0, 2, 9):
        rows = [
            {"method": name, "seed": seed, "x": draw.normal() + shift * (name == "a")}
            for name in "ab"
            for seed in range(8)
        ]
        p_value = over_seeds.paired_p_value(rows, "a", "b", lambda run: run["x"])
        mean, half = over_seeds.paired_difference(rows, "a", "b", lambda run: run["x"])
        assert (p_value < 0.05) == (abs(mean) > half)
        verdicts.add(p_value < 0.05)
    assert verdicts == {True, False}


def test_p_value_is_over_shared_seeds_and_1_where_nothing_differs():
    rows = [{"method": name, "seed": seed, "x": seed} for name in "ab" for seed in range(4)]
    rows.append({"method": "a", "seed": 9, "x": 50})
    assert over_seeds.paired_p_value(rows, "a", "b", lambda run: run["x"]) == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_going_through_the_sorted_values_rejects(p_values):
    corrected = over_seeds.holm(p_values)
    rejected = []
    for place, p_value in enumerate(sorted(p_values)):
        if p_value * (len(p_values) - place) > 0.05:
            break
        rejected.append(p_value)
    assert sorted(p for p, c in zip(p_values, corrected, strict=True) if c <= 0.05) == rejected
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))


def test_paired_differences_are_the_single_ones_and_corrected_together():
    draw = np.random.default_rng(1)
    rows = [
        {"method": name, "seed": seed, "x": draw.normal() + shift}
        for name, shift in (("a", 0), ("b", 0.2), ("c", 3))
        for seed in range(6)
    ]
    rows.append({"method": "a", "seed": 9, "x": 100.0})  # at a seed of its own
    questions = {name: (rows, name, "a", lambda run: run["x"]) for name in "bc"}
    found = over_seeds.paired_differences(questions)
    assert list(found) == ["b", "c"]
    for name, one in found.items():
        shared = [run for run in rows if run["seed"] < 9]
        assert one[:2] == over_seeds.paired_difference(shared, *questions[name][1:])
        assert one.p_value == over_seeds.paired_p_value(*questions[name])
    assert [one.corrected for one in found.values()] == over_seeds.holm(
        [one.p_value for one in found.values()]
    )
    assert [one.holds for one in found.values()] == [False, True]


def test_no_questions_have_no_differences():
    assert over_seeds.paired_differences({}) == {}
