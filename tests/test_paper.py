"""The paper's model and training, in full size, and the profiles that choose among sizes."""

import json
import warnings
from dataclasses import asdict, replace

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rollingq_core.data import DataSplits, PairedDataset, load_dataset
from rollingq_core.evaluation.cost import parameters, parameters_as_in_table4
from rollingq_core.methods import METHODS, methods_for
from rollingq_core.models import paper
from rollingq_core.models.paper import build_paper_model, build_small_paper_model
from rollingq_core.models.small import build_model
from rollingq_core.runs.description import PROFILES, RunDescription, current_profile, few, measure
from rollingq_core.settings import PAPER
from rollingq_core.training.loop import fit


def grids(audio, visual, samples=4, classes=6):
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % classes
    shapes = {"audio": audio, "visual": visual}
    split = PairedDataset(
        {name: torch.randn(samples, *x, generator=draw) for name, x in shapes.items()}, labels
    )
    patch = dict.fromkeys(shapes, (16, 16))
    return DataSplits("grids", split, split, split, tuple("abcdef"[:classes]), patch, "0" * 64)


@pytest.fixture(scope="module")
def small_grids():
    return grids((1, 33, 48), (3, 32, 32))


def test_paper_model_has_the_size_of_its_table_4():
    data = grids((1, 257, 188), (3, 224, 224), samples=1)
    model = build_paper_model(data)
    # Counted on the published code, which has a LayerNorm (2 d) and another d that nothing uses.
    assert sum(p.numel() for p in model.parameters()) == 60_162_066 - 3 * 768
    assert [type(e.vit) for e in model.encoders.values()] == [VisionTransformer] * 2
    assert [len(e.vit.blocks) for e in model.encoders.values()] == [4, 4]
    assert model.pool == "first"
    with torch.no_grad():
        output = model.eval()(data.train.inputs)
    assert output.fusion.attention.shape == (1, 1, 177 + 197)


@pytest.fixture(scope="module")
def of_table4():
    return grids((1, 257, 188), (3, 224, 224), samples=6)


@pytest.mark.parametrize(
    ("method", "counted"),
    [
        ("mt", 59_870_226),
        ("mt+rollingq", 60_460_050),
        ("mbt", 114_210_834),
        ("mmml", 77_884_818),
        ("jmt", 62_227_986),
    ],
)
def test_each_methods_parameters_are_those_of_table_4(of_table4, method, counted):
    with torch.device("meta"):  # shapes without numbers
        model = build_paper_model(of_table4, fusion=METHODS[method].fusion)
    assert parameters_as_in_table4(model, turned=METHODS[method].turns) == counted


def test_what_table_4_leaves_out_is_counted_beside_it(of_table4):
    with torch.device("meta"):
        model = build_paper_model(of_table4, fusion=METHODS["jmt"].fusion)
    attention = sum(parameters(layer) for layer in model.fusion.attention)
    vits = [encoder.vit for encoder in model.encoders.values()]
    places = sum(vit.cls_token.numel() + vit.pos_embed.numel() for vit in vits)
    assert attention == 3 * 4 * (768**2 + 768)
    left_out = parameters(model) - parameters_as_in_table4(model)
    assert left_out == attention + places


def test_fusion_has_the_options_of_the_published_code(small_grids):
    fusion = build_paper_model(small_grids).fusion
    assert (fusion.num_heads, fusion.attention_dropout, fusion.output_dropout.p) == (1, 0.2, 0.2)
    assert all(x.bias is not None for x in (fusion.q_proj, fusion.k_proj, fusion.v_proj))
    assert isinstance(fusion.out_proj, nn.Linear)
    assert not fusion.cls_self_key
    # A normal distribution cut at two deviations has 0.88 of the deviation.
    assert float(fusion.cls.detach().std()) == pytest.approx(0.88 * 0.02, rel=0.1)
    other = build_paper_model(
        small_grids, cls_self_key=True, cls_std=0.5, fusion=METHODS["uniform"].fusion
    ).fusion
    assert other.cls_self_key
    assert other.mode == "uniform"
    assert float(other.cls.detach().std()) == pytest.approx(0.88 * 0.5, rel=0.1)


def test_weights_from_scratch_are_drawn_as_in_the_published_code(small_grids):
    model = build_paper_model(small_grids)
    linear = model.encoders["audio"].vit.blocks[0].mlp.fc1
    assert float(linear.weight.detach().std()) == pytest.approx((2 / (768 + 3072)) ** 0.5, rel=0.02)
    assert not linear.bias.any()
    assert not model.probes["visual"].bias.any()
    patches = model.encoders["visual"].vit.patch_embed.proj
    assert float(patches.weight.detach().std()) == pytest.approx((2 / (768 * 256)) ** 0.5, rel=0.02)


def test_same_seed_gives_the_same_weights(small_grids):
    heads = [build_paper_model(small_grids, seed=seed).fusion.head.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_without_the_hub_there_is_one_warning_and_training_from_scratch(small_grids, monkeypatch):
    asked = []

    def out_of_reach(size, *, channels, pretrained=False, original=paper.vit_b16):
        if pretrained:
            asked.append(size)
            raise RuntimeError("no route to the hub\nand a long explanation")
        return original(size, channels=channels)

    expected = build_paper_model(small_grids)
    monkeypatch.setattr(paper, "vit_b16", out_of_reach)
    with pytest.warns(UserWarning, match="weights are out of reach.*no route to the hub") as told:
        model = build_paper_model(small_grids, pretrained=True)
    assert len(told) == len(asked) == 1
    assert "\n" not in str(told[0].message)
    assert torch.equal(model.fusion.head.weight, expected.fusion.head.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_paper_model(small_grids)


def test_inputs_too_small_for_the_patches_are_named():
    with pytest.raises(ValueError, match=r"data: got audio of shape \[1, 32, 49\].*|.*visual"):
        build_paper_model(load_dataset("digits", train_pairs=10))
    with pytest.raises(ValueError, match=r"got audio of shape \[8, 32\] in 'synthetic'"):
        build_small_paper_model(load_dataset("synthetic", train_samples=10))


def test_training_of_the_paper():
    assert asdict(PAPER.training) == {
        "epochs": 30, "pretrain_epochs": 0, "batch_size": 64, "lr": 1e-3, "momentum": 0.9,
        "weight_decay": 1e-4, "warmup_epochs": 2.5, "seed": 0, "selection": "best",
    }  # fmt: skip
    assert (PAPER.cls_std, PAPER.max_rotations, PAPER.dim) == (0.02, 1, 768)


def test_profile_is_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("ROLLINGQ_PROFILE", raising=False)
    assert current_profile() == "cpu"
    for name in ("smoke", "cpu", "gpu"):
        monkeypatch.setenv("ROLLINGQ_PROFILE", name)
        assert current_profile() == name
    monkeypatch.setenv("ROLLINGQ_PROFILE", "huge")
    with pytest.raises(ValueError, match=r"'huge', expected one of \('smoke', 'cpu', 'gpu'\)"):
        current_profile()


def test_few_samples_are_spread_over_each_split():
    data = load_dataset("digits")
    cut = few(data, 10)
    assert [len(s) for s in (cut.train, cut.validation, cut.test)] == [10, 10, 10]
    assert torch.equal(cut.test.inputs["visual"][-1], data.test.inputs["visual"][-1])
    assert torch.equal(cut.train.labels[0], data.train.labels[0])
    assert cut.data_hash != data.data_hash
    assert len(few(data, 10_000).test) == len(data.test)


def described(profile="smoke", method="mt+rollingq", **options):
    return RunDescription("digits", method, profile, 3, PROFILES[profile].setting, **options)


def test_description_of_a_run_survives_json():
    run = described(measured=measure(load_dataset("digits", train_pairs=10)))
    assert RunDescription.from_dict(json.loads(json.dumps(run.as_dict()))) == run


@pytest.mark.parametrize(
    "change",
    [{"setting": None}, {"more": 1}, {"method": "magic"}, {"profile": "huge"}, {"measured": {}}],
    ids=lambda change: next(iter(change)),
)
def test_anything_else_is_no_description(change):
    content = described(measured={"data_hash": "", "shapes": {}, "classes": []}).as_dict()
    with pytest.raises(ValueError, match="got"):
        RunDescription.from_dict(content | change)


def test_cpu_profile_is_the_books_own_model():
    run = described("cpu")
    data = run.load_data()
    model = run.prepare(data).model
    expected = build_model(load_dataset("digits", seed=3), run.setting, 3)
    assert list(model.state_dict()) == list(expected.state_dict())
    assert torch.equal(model.fusion.head.weight, expected.fusion.head.weight)


@pytest.mark.parametrize("method", methods_for(("audio", "visual")))
def test_each_method_trains_in_the_smoke_profile(method):
    run = described(method=method)
    data = run.load_data()
    model, config, observers = run.prepare(data)
    result = fit(model, data, replace(config, epochs=2), observers=observers)
    turns = [record["rotation"] for record in result.history if record.get("rotation")]
    expected = [method] if method in ("ogm", "ogm-ge", "pmr") else []
    expected += ["unimodal_losses"] if "mmml" in method else []
    if "mt2+" in method:
        expected += ["progressive"]
    elif METHODS[method].repeats == "lengths":
        expected += ["length"]
    expected += ["temperature"] if method == "mt+temperature" else []
    if METHODS[method].turns and method != "mt+norm_matched" and "mt2+" not in method:
        expected += ["rolling"]
    assert [observer.name for observer in observers] == expected
    assert bool(turns) is (METHODS[method].turns and method != "mt+norm_matched")
    # Only attention with a query that can be turned is watched.
    still = ("concat", "ogm", "ogm-ge", "pmr", "mult", "mbt", "jmt", "mmml")
    assert ("rotation" in result.history[-1]) is not (method in still or "unimodal" in method)
