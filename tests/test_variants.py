"""Tables 5, 6, 7 and 11: methods compared in models and trainings that differ in one thing."""

from dataclasses import replace
from functools import partial

import pytest

from rollingq_core.fusion import AttentionFusion, EarlyFusion
from rollingq_core.methods import METHODS
from rollingq_core.records import read_record, rounded
from rollingq_core.reproduce import RECIPES, closing, variants
from rollingq_core.reproduce.variants import COMPARED, VARIANTS, Variant
from rollingq_core.runs.run import prepare
from tests.small import SETTING, TRAINING, small_data

SHORT = replace(SETTING, training=replace(TRAINING, epochs=2, pretrain_epochs=0))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(variants, "load_dataset", lambda name, seed: small_data(seed))
    two = partial(AttentionFusion.of_shape, num_heads=2)
    monkeypatch.setitem(
        VARIANTS,
        "table5",
        {
            "plain": Variant(SHORT),
            "heads": Variant(SHORT, change=partial(variants._with_fusion, two)),
        },
    )


def test_each_variant_compares_the_methods_at_each_seed(tiny, tmp_path):
    out = tmp_path / "table5.json"
    record = variants.reproduce("table5", "synthetic", (100, 101), out=out, jobs=1)
    assert read_record("table5", tmp_path) == rounded(record)
    told = [(run["variant"], run["seed"], run["method"]) for run in record["runs"]]
    assert told == [(v, s, m) for v in ("plain", "heads") for s in (100, 101) for m in COMPARED]
    first = record["runs"][:3]
    assert {run["data_hash"] for run in first} == {small_data(100).data_hash}
    # The control turns when RollingQ does.
    assert first[1]["rotations"] == first[2]["rotations"] == [0, 1]
    assert first[0]["rotations"] == []
    assert len(first[0]["history"]["share"]) == 2
    assert record["command"].endswith("reproduce table5 --data synthetic --seeds 2")
    table = closing.by_variant(record)
    assert [row[0] for row in table.rows][:4] == [
        "plain: vanilla",
        "plain: RollingQ",
        "plain: random, same angle",
        "plain: RollingQ − vanilla",
    ]


def test_a_variant_is_what_its_name_says():
    table = {name: v.setting.max_rotations for name, v in VARIANTS["table5"].items()}
    assert (table["six turns"], table["three turns"], table["one turn"]) == (6, 3, 1)
    rolling = METHODS["mt+rollingq"]
    made = {}
    for name, variant in VARIANTS["table5"].items():
        data = small_data()
        own = prepare(variant.change(rolling), data, replace(variant.setting, dim=8), 0)
        made[name] = own.observers[0].rolling, own.model.fusion
    assert made["last batch"][0].estimate == "last_batch"
    assert made["SVD"][0].rotation == "svd"
    assert made["two heads"][1].num_heads == 2
    assert (made["six turns"][0].estimate, made["six turns"][0].rotation) == ("epoch", "minimal")
    for name in ("last batch", "SVD"):
        for other in ("mt", "mt+random_matched"):
            assert VARIANTS["table5"][name].change(METHODS[other]) is METHODS[other]


@pytest.mark.parametrize(
    ("name", "own"), [("from block 4", 1), ("from block 3", 2), ("from block 2", 3)]
)
def test_earlier_fusion_has_four_blocks_in_all(name, own):
    from rollingq_core.data import load_dataset

    variant = VARIANTS["table11"][name]
    data = load_dataset("digits", seed=0)
    method = variant.change(METHODS["mt+rollingq"])
    model, _, observers = prepare(method, data, variant.setting, 0, build=variant.build)
    assert isinstance(model.fusion, EarlyFusion)
    assert len(model.fusion.blocks) == own
    for encoder in model.encoders.values():
        assert len(encoder.vit.blocks) == 4 - own
    assert observers[0].rolling.module is model.fusion.blocks[-1].attention.rotation


def test_other_names_are_refused_before_anything_is_written(tmp_path):
    for wrong in ("table1", "table12", None):
        with pytest.raises(ValueError, match=r"recipe: got .*, expected one of \('table5'"):
            variants.reproduce(wrong, out=tmp_path / "r.json")
    with pytest.raises(ValueError, match=r"data_name: got 'digit', expected one of"):
        variants.reproduce("table5", "digit", out=tmp_path / "r.json")
    assert not list(tmp_path.iterdir())


def test_every_variant_table_has_its_recipe():
    shown = {name for name, recipe in RECIPES.items() if recipe.table is closing.by_variant}
    assert shown == {*VARIANTS, "interventions", "tuning"}
