"""Recipes: paired runs, records that resume, and committed records that still hold."""

import inspect
import json
import math
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from rollingq_core.commands.evaluate import evaluate
from rollingq_core.data import avmnist, load_dataset
from rollingq_core.evaluation import LEVELS, attention_contrast, conflict, under_noise
from rollingq_core.methods import DYNAMIC, METHODS, methods_for
from rollingq_core.models.predictions import predict
from rollingq_core.models.small import build_model
from rollingq_core.records import provenance, read_record, results_folder, rounded
from rollingq_core.reproduce import RECIPES, Recipe, comparison, grid, regimes, scale
from rollingq_core.reproduce.resumable import compute_record, compute_records
from rollingq_core.reproduce.seeds import FEWER, REPORTING_SEEDS, TUNING_SEEDS
from rollingq_core.runs import run as one_run
from rollingq_core.runs import sweep as runs
from rollingq_core.runs import train
from rollingq_core.settings import SETTINGS
from rollingq_core.training import loop as training
from rollingq_core.training.loop import total_loss
from tests.small import SETTING, assert_same_state, small_data

# Those that train methods over seeds, and of these the ones of the same methods.
SEEDED = [name for name, recipe in RECIPES.items() if recipe.report]
TOGETHER = tuple(name for name in SEEDED if RECIPES[name].methods == DYNAMIC)
RECORDS = sorted(results_folder().glob("comparison-*.json"))


@pytest.fixture(scope="module")
def data():
    return small_data()


def test_methods_share_weights_and_order_and_differ_in_what_they_are(data, monkeypatch):
    starts, orders, trained = {}, {}, {}
    # Those that repeat lengths train another run first.
    methods = [
        name for name in methods_for(("audio", "visual")) if METHODS[name].repeats != "lengths"
    ]

    def spy(model, data, config, observers):
        starts[method] = {k: v.clone() for k, v in model.state_dict().items()}
        assert config.seed == 3
        for observer in observers:
            drawing = getattr(observer, "rollings", [getattr(observer, "rolling", observer)])[0]
            if hasattr(drawing, "generator"):
                assert drawing.generator.initial_seed() == 3
            elif method == "pmr":
                assert drawing.seed == 3
        return training.fit(model, data, config, observers=observers)

    def note(output, labels):
        orders[method].append(labels.tolist())
        return total_loss(output, labels)

    monkeypatch.setattr(one_run, "fit", spy)
    monkeypatch.setattr(training, "total_loss", note)
    for method in methods:
        orders[method] = []
        trained[method] = train(method, data, setting=SETTING, seed=3).model.state_dict()
        assert orders[method] == orders[methods[0]]
    families = {}
    for method in methods:
        kind = DYNAMIC if method in DYNAMIC else METHODS[method].fusion
        if METHODS[method].modalities is None:
            families.setdefault(kind, []).append(method)
    assert families[METHODS["concat"].fusion] == ["concat", "ogm", "ogm-ge", "pmr"]
    assert [len(family) for family in families.values()] == [4, 5, 3, 1, 4, 1, 3, 1, 1, 1, 3]
    for family in families.values():
        for method in family:
            assert_same_state(starts[method], starts[family[0]])
        ends = {tuple(weights_of(trained[method])) for method in family}
        assert len(ends) == len(family)
    for name, value in starts["mt"].items():
        if name.startswith("encoders"):
            assert torch.equal(value, starts["concat"][name])


def weights_of(state):
    return torch.cat([state[name].flatten() for name in state if name.endswith("weight")]).tolist()


def test_seed_decides_weights_order_and_random_directions(data):
    states = [build_model(data, SETTING, seed).state_dict() for seed in (1, 1, 2)]
    assert_same_state(states[0], states[1])
    assert not torch.equal(states[0]["fusion.cls"], states[2]["fusion.cls"])
    results = [train("mt", data, setting=SETTING, seed=seed).result for seed in (7, 7, 8)]
    assert results[0] == results[1] != results[2]
    drawn = [load_dataset("synthetic", seed=seed).data_hash for seed in (7, 8)]
    short = replace(SETTING, training=replace(SETTING.training, epochs=1, pretrain_epochs=0))
    named = [train("mt", "synthetic", setting=short, seed=seed).data for seed in (7, 8)]
    assert [one.data_hash for one in named] == drawn


def test_model_takes_its_shapes_from_the_data():
    data = small_data(classes=3)
    grids = {"audio": data.train.inputs["audio"][:, None], "visual": torch.zeros(80, 2, 5, 9)}
    split = data.train.with_inputs(**grids)
    cut = replace(data, train=split, patch={"audio": (4, 2), "visual": (2, 3)})
    for given, shapes in ((data, [[4, 8], [4, 8]]), (cut, [[4, 8], [6, 12]])):
        model = build_model(given, SETTING, 0)
        assert [encoder.shape for encoder in model.encoders.values()] == shapes
        output = model(given.train.inputs)
        logits = [output.fusion.logits, *output.probes.values()]
        assert [x.shape for x in logits] == [(80, 3)] * 3


def test_class_token_and_positions_are_the_settings(data):
    plain = build_model(data, replace(SETTING, positions=False), 0)
    for name, encoder in build_model(data, SETTING, 0).encoders.items():
        assert encoder.positions is not None
        assert plain.encoders[name].positions is None
    small, large = (
        build_model(data, replace(SETTING, cls_std=std), 0).fusion.cls for std in (0.1, 1.0)
    )
    torch.testing.assert_close(10 * small, large)


def test_random_controls_follow_the_rollingq_run(data):
    training = replace(SETTING.training, epochs=6)
    setting = replace(SETTING, training=training, start_epoch=1, spacing=2)
    events = train("mt+rollingq", data, setting=setting, seed=0).events
    assert [event.epoch for event in events] == [1, 3, 5]
    matched = train("mt+random_matched", data, setting=setting, schedule=events).events
    free = train("mt+random_free", data, setting=setting, schedule=events).events
    assert [e.epoch for e in matched] == [e.epoch for e in free] == [1, 3, 5]
    assert [e.angle for e in matched] == pytest.approx([e.angle for e in events], abs=1e-6)
    assert [e.angle for e in free] != pytest.approx([e.angle for e in events], abs=1e-2)
    assert train("mt+random_free", data, setting=setting, schedule=[]).events == []


def test_uniform_attention_stays_uniform(data):
    run = train("uniform", data, setting=SETTING)
    torch.testing.assert_close(predict(run.model, data.test).share, torch.full((60, 2), 0.5))


def test_unknown_names_are_listed(data, tmp_path):
    with pytest.raises(ValueError, match=r"method: got 'best', expected one of .*'mt\+rollingq'"):
        train("best", data, setting=SETTING)
    expected = r"setting: got 'X', expected one of \('T', 'P', 'S', 'I', 'I3'\)"
    with pytest.raises(ValueError, match=expected):
        train("mt", data, setting="X")
    with pytest.raises(ValueError, match=r"name: got 'movies', expected one of \['synthetic'"):
        train("mt", "movies", setting=SETTING)
    with pytest.raises(ValueError, match=r"modalities: got \['text'\], expected some of \['audio'"):
        train("unimodal-text", data, setting=SETTING)
    with pytest.raises(ValueError, match="setting_name: got 'X', expected one of"):
        comparison.reproduce(setting_name="X", out=tmp_path)
    for wrong in (("comparison", "table12"), ()):
        with pytest.raises(ValueError, match=r"recipes: got .*, expected some of \['comparison'"):
            comparison.reproduce(wrong, out=tmp_path)
    with pytest.raises(ValueError, match=r"test: got 'robustness', expected one of \('noise'"):
        evaluate(tmp_path, "robustness")


@pytest.mark.parametrize("recipe", [comparison, grid, regimes, scale])
def test_seeds_and_jobs_that_are_none_are_named(recipe, tmp_path):
    out = tmp_path / "r.json"
    for seeds in ((), (100, 100), "100", None, 100):
        with pytest.raises(ValueError, match=r"seeds: got .*, expected one or more integers, none"):
            recipe.reproduce(seeds=seeds, out=out)
    for seed in (1.5, 100.0, -1, "3", True, None):
        with pytest.raises(
            ValueError, match=r"seeds\[1\]: got .*, expected an integer of at least 0"
        ):
            recipe.reproduce(seeds=(100, seed), out=out)
    for jobs in (0, -1, 1.5, "2", None):
        with pytest.raises(ValueError, match=r"jobs: got .*, expected an integer of at least 1"):
            recipe.reproduce(seeds=(100,), out=out, jobs=jobs)
    assert not list(tmp_path.iterdir())


def test_data_and_profiles_that_there_are_not_are_named(tmp_path):
    for wrong in ("digit", "scale", "avmnist_full", None):
        with pytest.raises(ValueError, match=r"data_name: got .*, expected one of \('synthetic'"):
            comparison.reproduce(data_name=wrong, out=tmp_path)
    with pytest.raises(ValueError, match=r"data_name: got 'digit', expected one of \('synthetic'"):
        scale.reproduce("digit", "smoke", out=tmp_path / "r.json")
    with pytest.raises(ValueError, match=r"profile: got 'tpu', expected one of \('smoke'"):
        scale.reproduce("digits", "tpu", out=tmp_path / "r.json")


def defaults(call):
    found = inspect.signature(call).parameters.values()
    return {one.name: one.default for one in found if one.default is not one.empty}


def test_defaults_are_those_of_the_books_records():
    reporting = tuple(range(100, 112))
    assert defaults(comparison.reproduce) == {
        "recipes": ("comparison",),
        "data_name": "digits",
        "setting_name": "P",
        "seeds": reporting,
        "jobs": 2,
    }
    assert defaults(grid.reproduce) == {"seeds": tuple(range(5)), "jobs": 2}
    assert defaults(regimes.reproduce) == {"seeds": reporting, "jobs": 2}
    assert defaults(scale.reproduce) == {
        "data_name": "avmnist_full",
        "profile": "gpu",
        "seeds": reporting[:5],
        "jobs": 1,
        "precision": None,
    }
    assert defaults(compute_records) == defaults(compute_record) == {"jobs": 2, "gpu": None}
    assert defaults(rounded) == {"digits": 6}
    assert defaults(provenance) == {"gpu": None}
    assert defaults(read_record) == {"folder": None}
    assert defaults(train) == {"setting": "P", "seed": 0, "schedule": None}
    assert comparison.SEEDS_A_BATCH == 3
    assert (reporting, tuple(range(5))) == (REPORTING_SEEDS, TUNING_SEEDS)


@pytest.fixture
def tiny(monkeypatch):
    """Setting T and synthetic data, so small that one seed takes a second."""
    short = replace(SETTING, training=replace(SETTING.training, epochs=2))
    monkeypatch.setitem(SETTINGS, "T", short)
    for module in (runs, comparison):
        monkeypatch.setattr(module, "load_dataset", lambda name, seed: small_data(seed))
    monkeypatch.setattr(comparison, "SEEDS_A_BATCH", 1)
    return short


NAME = "comparison-synthetic-T"


def reproduce(folder, seeds=(100, 101)):
    records = comparison.reproduce(("comparison",), "synthetic", "T", seeds, out=folder, jobs=1)
    return records["comparison"]


def test_comparison_writes_what_it_returns(tiny, tmp_path):
    record = reproduce(tmp_path)
    # Read back, numbers are cut to six digits and JSON knows lists only.
    assert read_record(NAME, tmp_path) == rounded(record)
    assert [(run["seed"], run["method"]) for run in record["runs"]] == [
        (seed, method) for seed in (100, 101) for method in DYNAMIC
    ]
    named = {"data": "synthetic", "setting": "T", "methods": list(DYNAMIC)}
    assert record["config"] == named | asdict(tiny)
    assert record["command"].endswith("--data synthetic --setting T --seeds 2")
    assert {"date", "commit", "versions", "hardware", "seconds", "wall_seconds"} <= set(record)
    hashes = {run["seed"]: run["data_hash"] for run in record["runs"]}
    assert hashes == {seed: small_data(seed).data_hash for seed in (100, 101)}
    assert list(tmp_path.iterdir()) == [tmp_path / f"{NAME}.json"]


def test_a_runs_numbers_are_those_of_its_model(tiny, tmp_path):
    runs = {run["method"]: run for run in reproduce(tmp_path, (100,))["runs"]}
    for method in ("mt", "mt+rollingq"):
        run = train(method, small_data(100), setting=tiny, seed=100)
        found = predict(run.model, run.data.test)
        row = runs[method]
        assert row["accuracy"][0] == pytest.approx(found.accuracy, abs=1e-6)
        assert row["share_normal"] == pytest.approx(float(found.share[:, 0].mean()), abs=1e-6)
        assert row["probe_accuracy"] == pytest.approx(found.probe_accuracy, abs=1e-6)
        for event, expected in zip(row["events"], map(asdict, run.events), strict=True):
            for name, value in expected.items():
                assert event[name] == pytest.approx(value, rel=1e-4, abs=1e-6)
        assert len(row["history"]["train_loss"]) == 3  # both stages
        assert len(row["history"]["air"]) == 2  # fusion alone
    turns = [
        [(event["epoch"], round(event["angle"], 5)) for event in runs[method]["events"]]
        for method in ("mt+rollingq", "mt+random_matched")
    ]
    assert turns[0] == turns[1]
    assert len(turns[0]) == 2


def test_comparison_goes_on_after_a_crash(tiny, tmp_path, monkeypatch):
    whole = reproduce(tmp_path / "whole")
    done, original = [], comparison.run_seeds

    def crashing(reports, methods, data_name, setting_name, seeds):
        if seeds == (101,) and not crashed:
            crashed.append(seeds)
            raise KeyboardInterrupt
        done.extend(seeds)
        return original(reports, methods, data_name, setting_name, seeds)

    crashed = []
    monkeypatch.setattr(comparison, "run_seeds", crashing)
    with pytest.raises(KeyboardInterrupt):
        reproduce(tmp_path)
    assert not (tmp_path / f"{NAME}.json").exists()
    assert [p.name for p in (tmp_path / f"{NAME}.parts").iterdir()] == ["100.json"]
    resumed = reproduce(tmp_path)
    assert done == [100, 101]
    assert rounded(resumed["runs"]) == rounded(whole["runs"])
    assert not (tmp_path / f"{NAME}.parts").exists()


def test_recipes_computed_together_are_those_computed_alone(tiny, tmp_path):
    recipes = TOGETHER
    assert recipes == ("comparison", "table2", "table3", "conflict", "calibration", "table10")
    together = comparison.reproduce(recipes, "synthetic", "T", (100,), out=tmp_path, jobs=1)
    assert list(together) == list(recipes)
    for recipe in recipes:
        name = f"{recipe}-synthetic-T"
        assert read_record(name, tmp_path) == rounded(together[recipe])
        out = tmp_path / "alone"
        alone = comparison.reproduce((recipe,), "synthetic", "T", (100,), out=out, jobs=1)[recipe]
        same = ("recipe", "command", "config", "seeds", "levels", "runs")
        assert rounded({k: alone[k] for k in same}) == rounded(
            {k: together[recipe][k] for k in same}
        )
        assert alone["command"].startswith(f"python -m rollingq_core reproduce {recipe} --data syn")
    assert sorted(p.stem for p in tmp_path.glob("*.json")) == sorted(
        f"{recipe}-synthetic-T" for recipe in recipes
    )


def test_the_tables_are_those_of_the_model(tiny, tmp_path):
    records = comparison.reproduce(
        ("table2", "table3", "conflict", "calibration"), "synthetic", "T", (100,), out=tmp_path,
        jobs=1)  # fmt: skip
    rows = {name: {r["method"]: r for r in record["runs"]} for name, record in records.items()}
    run = train("mt", small_data(100), setting=tiny, seed=100)
    contrast = attention_contrast(run.model, run.data.test, "audio", seed=100)
    row = rows["table2"]["mt"]
    assert row["pearson"] == pytest.approx(-contrast.pearson, abs=1e-4)
    assert row["low"] < row["pearson"] < row["high"]
    assert rows["table2"]["uniform"]["auroc"] == 0.5
    row = rows["table3"]["mt"]
    assert {name.split()[0] for name in row} >= {"mix", "add", "replace"}
    clean = predict(run.model, run.data.test).accuracy
    for mechanism in ("mix", "add", "replace", "zeros", "offset"):
        for target, chosen in (("audio", "audio"), ("both", ["audio", "visual"])):
            found = row[f"{mechanism} {target}"]
            assert found[0] == pytest.approx(clean, abs=1e-6)
            expected = under_noise(
                run.model, run.data.test, chosen, (0.5,), mechanism=mechanism, seed=100
            )
            assert found[2] == pytest.approx(float(expected.accuracy[0]), abs=2e-2)
    assert rows["conflict"]["mt"]["follows"] == pytest.approx(
        conflict(run.model, run.data.test, "audio", seed=100).follows, abs=2e-2
    )
    row = rows["calibration"]["mt"]
    assert row["accuracy"] == rows["table3"]["mt"]["mix audio"]
    assert len(row["ece"]) == len(row["reliability"]) == 5


def test_recipes_of_other_methods_are_not_computed_together(tmp_path):
    with pytest.raises(
        ValueError, match=r"recipes: got \['table1', 'table2'\], which train differ"
    ):
        comparison.reproduce(("table1", "table2"), "synthetic", "T", (100,), out=tmp_path)
    with pytest.raises(ValueError, match=r"recipes: got \['grid'\], expected some of \['comparis"):
        comparison.reproduce("grid", "synthetic", "T", (100,), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_costs_more_is_trained_at_the_first_seeds_only(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "FEWER", 1)
    kept = ("concat", "mt", "mbt")
    recipe = replace(RECIPES["table1"], methods=kept)
    monkeypatch.setitem(RECIPES, "table1", recipe)
    out = {"out": tmp_path, "jobs": 1}
    record = comparison.reproduce("table1", "synthetic", "T", (100, 101), **out)["table1"]
    trained = [(row["seed"], row["method"]) for row in record["runs"]]
    assert trained == [(100, "concat"), (100, "mt"), (100, "mbt"), (101, "concat"), (101, "mt")]
    table = recipe.table(record)
    assert "over 2 seeds (MBT 1)" in table.caption
    assert "mbt" in recipe.fewer
    assert "mt" not in recipe.fewer


def test_table_1_trains_every_method_that_the_data_has_the_modalities_of(tiny, tmp_path):
    record = comparison.reproduce("table1", "synthetic", "T", (100,), out=tmp_path, jobs=1)
    record = record["table1"]
    methods = [name for name in RECIPES["table1"].methods if name != "unimodal-text"]
    assert record["config"]["methods"] == methods
    assert [row["method"] for row in record["runs"]] == methods
    data, rows = small_data(100), {row["method"]: row for row in record["runs"]}
    for method in ("unimodal-visual", "concat", "ogm-ge", "pmr", "mt", "mt2+rollingq", "mmml"):
        run = train(method, data, setting=tiny, seed=100)
        response = under_noise(run.model, data.test, "audio", LEVELS, seed=100)
        # An answer may turn over where replicas round in another way.
        assert rows[method]["accuracy"] == pytest.approx(response.accuracy.tolist(), abs=2e-2)
        weights = sum(value.numel() for value in run.model.parameters())
        assert rows[method]["parameters"] == weights
        assert [*rows[method]["probe_accuracy"]] == list(run.model.modalities)
        assert rows[method]["rotations"] == [event.epoch for event in run.events]
    # What it does not read does not disturb it.
    assert len(set(rows["unimodal-visual"]["accuracy"])) == 1
    turned = [rows[name]["rotations"] for name in DYNAMIC]
    assert turned[1:4] == [[0, 1]] * 3
    assert turned[0] == turned[4] == []


def test_a_recipe_is_one_line(tiny, tmp_path, monkeypatch):
    def about_events(method, seed, run):
        return {"events": len(run.events), "favoured": run.favoured}

    added = Recipe("how often the query turned", about_events, ("mt", "mt+rollingq"))
    monkeypatch.setitem(RECIPES, "turns", added)
    record = comparison.reproduce("turns", "synthetic", "T", (100,), out=tmp_path, jobs=1)["turns"]
    assert read_record("turns-synthetic-T", tmp_path)["runs"] == [
        {"method": "mt", "seed": 100, "events": 0, "favoured": "audio"}
        | {"data_hash": small_data(100).data_hash},
        {"method": "mt+rollingq", "seed": 100, "events": 2, "favoured": "audio"}
        | {"data_hash": small_data(100).data_hash},
    ]
    assert record["config"]["methods"] == ["mt", "mt+rollingq"]


def test_each_recipe_has_one_way_to_be_computed():
    for name, recipe in RECIPES.items():
        assert bool(recipe.report) != bool(recipe.compute), name
        assert recipe.about, name
        assert recipe.methods, name
        assert set(recipe.methods) <= set(METHODS), name
        assert set(recipe.seeds) <= {*TUNING_SEEDS, *REPORTING_SEEDS}, name
        assert callable(recipe.table), name


@pytest.mark.parametrize(("favoured", "disturbed"), [(None, "audio"), ("visual", "visual")])
def test_noise_is_put_into_the_favoured_modality_or_the_first(favoured, disturbed, data):
    short = replace(SETTING, training=replace(SETTING.training, epochs=1))
    run = train("mt", replace(data, favoured=favoured), setting=short)
    assert run.favoured == disturbed
    row = RECIPES["comparison"].report("mt", 0, run)
    expected = under_noise(run.model, run.data.test, disturbed, LEVELS, seed=0)
    assert row["accuracy"] == expected.accuracy.tolist()
    place = ("audio", "visual").index(disturbed)
    assert row["shares"] == expected.share[:, place].tolist()
    for name, key in (("table3", f"mix {disturbed}"), ("calibration", "accuracy")):
        assert RECIPES[name].report("mt", 0, run)[key] == row["accuracy"]
    assert RECIPES["table2"].report("mt", 0, run)["share_noisy"] == row["share_noisy"]
    followed = conflict(run.model, run.data.test, disturbed, seed=0).follows
    assert RECIPES["conflict"].report("mt", 0, run)["follows"] == followed


def test_a_variant_is_its_dataset_with_options(tiny, tmp_path, monkeypatch):
    asked = []

    def load(**options):
        asked.append(options)
        return small_data(options["seed"])

    monkeypatch.setattr(avmnist, "load", load)
    monkeypatch.setattr(runs, "load_dataset", load_dataset)
    records = comparison.reproduce(
        ("table2",), "avmnist-new-speaker", "T", (100,), out=tmp_path, jobs=1
    )
    assert asked == [{"held_out_speaker": "theo", "token_noise": 0.0, "seed": 100}]
    assert records["table2"]["config"]["data"] == "avmnist-new-speaker"
    assert (tmp_path / "table2-avmnist-new-speaker-T.json").exists()


def test_a_readers_own_file_is_compared_too(tiny, tmp_path, monkeypatch):
    path = tmp_path / "mine.npz"
    found = small_data(5, train_samples=200)
    arrays = {name: values.numpy() for name, values in found.train.inputs.items()}
    np.savez(path, **arrays, labels=found.train.labels.numpy())
    for module in (runs, comparison):
        monkeypatch.setattr(module, "load_dataset", load_dataset)
    out = tmp_path / "out"
    record = comparison.reproduce("table2", str(path), "T", (100, 101), out=out, jobs=1)["table2"]
    assert (out / "table2-mine-T.json").is_file()
    assert record["config"]["data"] == str(path)
    hashes = {run["seed"]: run["data_hash"] for run in record["runs"]}
    assert hashes == {seed: load_dataset(str(path), seed).data_hash for seed in (100, 101)}


def test_parts_of_another_setting_are_not_used(tiny, tmp_path, monkeypatch):
    parts = tmp_path / f"{NAME}.parts"
    stale = {"config": {"setting": "T", "old": True}, "rows": [], "seconds": 0.0}
    parts.mkdir()
    (parts / "100.json").write_text(json.dumps(stale))
    assert len(reproduce(tmp_path, (100,))["runs"]) == len(DYNAMIC)


def test_parts_of_seeds_not_asked_for_are_kept(tiny, tmp_path):
    parts = tmp_path / f"{NAME}.parts"
    parts.mkdir()
    (parts / "105.json").write_text("{}")
    assert reproduce(tmp_path, (100,))["seeds"] == [100]
    assert [p.name for p in parts.iterdir()] == ["105.json"]


def test_reporting_seeds_took_no_part_in_tuning():
    assert len(set(REPORTING_SEEDS)) >= 12
    assert not set(REPORTING_SEEDS) & set(range(10))


def require_todays(record, methods):
    """Assert that a record's setting is today's, and its methods are those of its recipe."""
    config = dict(record["config"])
    # Records of before there were more methods do not name theirs.
    assert config.pop("methods", list(DYNAMIC)) == list(methods)
    today = {"data": config["data"], "setting": config["setting"]}
    assert config == rounded(today | asdict(SETTINGS[config["setting"]]))


@pytest.mark.skipif(not RECORDS, reason="no comparison record has been computed yet")
@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_committed_record_holds_today(path):
    record = read_record(path.stem)
    config = record["config"]
    require_todays(record, DYNAMIC)
    assert path.stem == f"comparison-{config['data']}-{config['setting']}"
    assert len(record["seeds"]) >= 12
    assert set(record["seeds"]) <= set(range(REPORTING_SEEDS[0], 1000))
    assert record["levels"] == list(LEVELS)
    for method in DYNAMIC:
        assert [r["seed"] for r in record["runs"] if r["method"] == method] == record["seeds"]
    for seed in record["seeds"]:
        runs = {r["method"]: r for r in record["runs"] if r["seed"] == seed}
        assert len({run["data_hash"] for run in runs.values()}) == 1
        for run in runs.values():
            check_run(run, config)
        check_events(runs, config)


TABLES = sorted(path for recipe in SEEDED for path in results_folder().glob(f"{recipe}-*.json"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_committed_table_is_of_todays_setting_and_of_reporting_seeds(path):
    record = read_record(path.stem)
    recipe, config = record["recipe"], record["config"]
    assert path.stem == f"{recipe}-{config['data']}-{config['setting']}"
    methods = RECIPES[recipe].methods
    if "concat" in methods:  # beside those of one modality, which the data may lack
        whole = next(run for run in record["runs"] if run["method"] == "concat")
        have = set(whole["probe_accuracy"])
        methods = tuple(name for name in methods if set(METHODS[name].modalities or ()) <= have)
    require_todays(record, methods)
    # Where a run costs much, the first of them.
    assert len(record["seeds"]) >= 5
    assert record["seeds"] == list(RECIPES[recipe].seeds)[: len(record["seeds"])]
    first = record["seeds"][:FEWER]
    assert [(run["seed"], run["method"]) for run in record["runs"]] == [
        (seed, method)
        for seed in record["seeds"]
        for method in methods
        if seed in first or method not in RECIPES[recipe].fewer
    ]
    assert f"reproduce {recipe} --data {config['data']} " in record["command"]


def check_run(run, config):
    pretraining, epochs = (config["training"][k] for k in ("pretrain_epochs", "epochs"))
    rates = [
        *run["accuracy"],
        run["share_normal"],
        run["share_noisy"],
        *run["probe_accuracy"].values(),
    ]
    assert len(run["accuracy"]) == len(LEVELS)
    assert all(0 <= rate <= 1 for rate in rates)
    assert -1 <= run["pearson"] <= 1
    history = run["history"]
    assert {name: len(values) for name, values in history.items()} == {
        **dict.fromkeys(("air", "query_norm", "share", "validation_accuracy"), epochs),
        **dict.fromkeys(("gradient_norm", "train_loss"), pretraining + epochs),
    }
    assert all(math.isfinite(value) for name in ("air", "train_loss") for value in history[name])
    assert all(sum(share.values()) == pytest.approx(1, abs=1e-5) for share in history["share"])


def check_events(runs, config):
    assert runs["mt"]["events"] == runs["uniform"]["events"] == []
    events = runs["mt+rollingq"]["events"]
    assert 1 <= len(events) <= config["max_rotations"]
    epochs = [event["epoch"] for event in events]
    assert config["start_epoch"] <= epochs[0] <= epochs[-1] < config["training"]["epochs"]
    assert all(b - a >= config["spacing"] for a, b in pairwise(epochs))
    for event in events:
        assert abs(event["air"]) >= config["beta"] * (1 - 1e-5)
        assert event["air"] == runs["mt+rollingq"]["history"]["air"][event["epoch"]]
        assert sum(event["weights"]) == pytest.approx(1, abs=1e-5)
    for control in ("mt+random_matched", "mt+random_free"):
        assert [event["epoch"] for event in runs[control]["events"]] == epochs
    angles = [event["angle"] for event in runs["mt+random_matched"]["events"]]
    assert angles == pytest.approx([event["angle"] for event in events], abs=1e-5)
