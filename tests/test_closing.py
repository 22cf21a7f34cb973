"""The table that a recipe ends with: means over seeds, and what differs, by hand."""

from itertools import product

from scipy import stats

from rollingq_core.records import read_record, results_folder
from rollingq_core.reproduce import RECIPES, closing

# Half the width of a 95 % interval of two differences, over their distance.
HALF = float(stats.t.ppf(0.975, 1)) / 2


def row(method, seed, **numbers):
    return {"method": method, "seed": seed, "data_hash": "0"} | numbers


def test_accuracy_is_in_points_by_level_with_differences_to_vanilla():
    runs = [
        row("mt", 1, accuracy=[0.80, 0.5]),
        row("mt+rollingq", 1, accuracy=[0.84, 0.5]),
        row("mt+rollingq", 2, accuracy=[0.90, 0.5]),
        row("mt", 2, accuracy=[0.88, 0.5]),
    ]
    table = closing.accuracy_by_level({"levels": [0.0, 0.25], "runs": runs})
    assert table.header == ["", "noise 0", "noise 0.25"]
    assert table.rows == [
        ["vanilla", "84.0 ± 5.7", "50.0 ± 0.0"],
        ["RollingQ", "87.0 ± 4.2", "50.0 ± 0.0"],
        # 4 and 2 points: their distance is 2.
        ["RollingQ − vanilla", f"+3.0 ± {2 * HALF:.1f}", "+0.0 ± 0.0"],
    ]
    assert table.caption == (
        "Test accuracy, %: mean ± sd over 2 seeds. "
        "Differences are paired by seed, with their 95 % intervals."
    )


def test_one_seed_has_neither_spread_nor_differences():
    runs = [row("mt", 1, accuracy=[0.8]), row("mt+rollingq", 1, accuracy=[0.9])]
    table = closing.accuracy_by_level({"levels": [0.0], "runs": runs})
    assert table.rows == [["vanilla", "80.0"], ["RollingQ", "90.0"]]
    assert table.caption == "Test accuracy, %: mean ± sd over 1 seed."


def test_without_vanilla_there_is_nothing_to_differ_from():
    runs = [row(name, seed, accuracy=[0.5]) for name in ("concat", "pmr") for seed in (1, 2)]
    table = closing.accuracy_by_level({"levels": [0.0], "runs": runs})
    assert [cells[0] for cells in table.rows] == ["concat", "PMR"]
    assert "Differences" not in table.caption


def test_the_last_level_is_told_by_kind_and_target():
    runs = [
        row("uniform", seed, **{"mix audio": [0.9, last], "add both": [0.9, 0.25]})
        for seed, last in ((1, 0.5), (2, 0.7))
    ]
    table = closing.last_level({"levels": [0.0, 1.0], "runs": runs})
    assert table.header == ["", "mix audio", "add both"]
    assert table.rows == [["uniform", "60.0 ± 14.1", "25.0 ± 0.0"]]


def test_accuracy_by_modality_is_clean_once():
    runs = [row("mt", 1, accuracy={"audio": [0.9, 0.5], "text": [0.9, 0.25]})]
    table = closing.by_modality({"levels": [0.0, 1.0], "runs": runs})
    assert table.header == ["", "clean", "noise for audio", "noise for text"]
    assert table.rows == [["vanilla", "90.0", "50.0", "25.0"]]


def test_numbers_are_means_of_those_that_a_run_has():
    runs = [
        row("mt", 1, auroc=None, neither=0.25, p_value=0.5, follows={"audio": 0.5, "visual": 0.25}),
        row("mt", 2, auroc=0.75, neither=0.25, p_value=0.5, follows={"audio": 0.7, "visual": 0.05}),
        row("odd", 1, auroc=None, neither=0.5, p_value=0.5, follows={"audio": 0.5, "visual": 0.0}),
        row("odd", 2, auroc=None, neither=0.5, p_value=0.5, follows={"audio": 0.5, "visual": 0.0}),
    ]
    table = closing.numbers({"runs": runs})
    # No column for seeds, hashes and p-values; one that the first run lacks is there.
    assert table.header == ["", "auroc", "neither", "follows audio", "follows visual"]
    assert table.rows == [
        ["vanilla", "0.750", "0.250 ± 0.000", "0.600 ± 0.141", "0.150 ± 0.141"],
        # A method that is not known any more keeps its name.
        ["odd", "–", "0.500 ± 0.000", "0.500 ± 0.000", "0.000 ± 0.000"],
    ]


def test_a_difference_needs_the_number_on_both_sides():
    runs = [row("mt", seed, air=0.5, x=1.0) for seed in (1, 2)]
    runs += [row("concat", seed, air=None, x=2.0) for seed in (1, 2)]
    columns = {"AIR": lambda run: run["air"], "x": lambda run: run["x"]}
    table = closing.over_seeds(runs, columns, "Numbers", baseline="mt", digits=2)
    assert table.rows == [
        ["vanilla", "0.50 ± 0.00", "1.00 ± 0.00"],
        ["concat", "–", "2.00 ± 0.00"],
        ["concat − vanilla", "–", "+1.00 ± 0.00"],
    ]


def test_the_map_has_a_gain_for_each_rho_and_beta():
    record = {"rhos": [1.0, 3.0], "betas": [0.0, 0.25], "seeds": [0, 1], "levels": [0.0, 1.0]}
    record["runs"] = [
        row("mt", 0, accuracy=[0.9, 0.50], cells=[[0, 1], [1, 1]]),
        row("mt+rollingq", 0, accuracy=[0.9, 0.52], cells=[[0, 0]]),
        row("mt+rollingq", 0, accuracy=[0.9, 0.45], cells=[[1, 0]]),
        row("mt", 1, accuracy=[0.9, 0.60], cells=[[0, 1]]),
        row("mt+rollingq", 1, accuracy=[0.9, 0.62], cells=[[0, 0], [1, 0]]),
        row("mt+rollingq", 1, accuracy=[0.9, 0.66], cells=[[1, 1]]),
    ]
    table = closing.by_rho_and_beta(record)
    assert table.header == ["", "beta 0", "beta 0.25"]
    # Both gain 2 points; what turned at no seed gains nothing; -5 and 2, and 0 and 6, are two.
    assert table.rows == [["rho 1", "+2.0*", "+0.0 "], ["rho 3", "−1.5 ", "+3.0 "]]
    assert table.caption == (
        "RollingQ − vanilla under noise alone, in points of test accuracy: "
        "mean over 2 seeds, with a star where the 95 % interval leaves out 0."
    )
    record["runs"] = record["runs"][:3]
    assert closing.by_rho_and_beta(record).rows == [["rho 1", "+2.0", "+0.0"],
                                                    ["rho 3", "−5.0", "+0.0"]]  # fmt: skip


def test_what_each_modality_alone_answers_stands_beside_all():
    runs = [
        row("mt", seed, accuracy=0.9, alone={"audio": 0.8, "visual": 0.3}, without={"audio": 0.3})
        for seed in (1, 2)
    ]
    table = closing.alone({"runs": runs})
    assert table.header == ["", "all", "audio alone", "visual alone"]
    assert table.rows[0][1:] == ["90.0 ± 0.0", "80.0 ± 0.0", "30.0 ± 0.0"]


def test_what_lies_outside_is_told_by_gen():
    auroc = {"near gen": 0.75, "near energy": 0.1, "noise gen": 0.5}
    runs = [row("mt", seed, accuracy=0.9, auroc=auroc, flagged=auroc) for seed in (1, 2)]
    table = closing.separated({"runs": runs})
    assert table.header == ["", "accuracy", "near", "noise"]
    assert table.rows[0][1:] == ["90.0 ± 0.0", "75.0 ± 0.0", "50.0 ± 0.0"]


def test_regimes_have_a_gain_for_each_budget():
    axes = {"cls_std": [0.02, 1.0], "visual_strength": [2.0], "train_samples": [200]}
    runs = []
    for std, seed in product(axes["cls_std"], (1, 2)):
        regime = {"cls_std": std, "visual_strength": 2.0, "train_samples": 200}
        for method, budget, accuracy in (
            ("mt", None, 0.5),
            ("mt+rollingq", 1, 0.5 + 0.01 * seed * (std == 1)),
            ("mt+rollingq", 3, 0.53),
            ("mt+random_matched", 3, 0.9),
        ):
            levels = [0.9, accuracy, 0.1]
            runs.append(row(method, seed, accuracy=levels, max_rotations=budget, **regime))
    record = axes | {"budgets": [1, 3], "levels": [0.0, 0.5, 1.0], "seeds": [1, 2], "runs": runs}
    table = closing.by_regime(record)
    assert table.header == ["sharpness, vision, samples", "at most 1 turn", "at most 3 turns"]
    assert table.rows == [["0.02, 2, 200", "+0.0 ", "+3.0*"], ["1, 2, 200", "+1.5 ", "+3.0*"]]
    assert table.caption.startswith("RollingQ − vanilla at noise level 0.5, in points of test acc")


def test_every_recipe_of_the_books_records_has_its_table():
    names = [path.stem for path in results_folder().glob("*.json")]
    records = [record for record in map(read_record, names) if record.get("recipe") in RECIPES]
    assert {record["recipe"] for record in records} >= {"comparison", "table2", "grid", "scale"}
    for record in records:
        table = RECIPES[record["recipe"]].table(record)
        assert table.rows
        assert f"over {len(record['seeds'])} seeds" in table.caption
        # It fits a terminal.
        assert max(map(len, repr(table).splitlines())) <= 160
