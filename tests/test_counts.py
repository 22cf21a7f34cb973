"""What counts is an integer: no float is cut, nowhere, and the message says what came."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rollingq_core.balancing import OGM, PMR
from rollingq_core.data import load_dataset
from rollingq_core.data.dataset import corrupt_splits
from rollingq_core.data.pairing import balanced_choice
from rollingq_core.fusion.concat import ConcatFusion
from rollingq_core.models.encoders import TokenMLP, small_vit, vit_b16
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.paper import build_small_paper_model
from rollingq_core.models.predictions import batches, predict
from rollingq_core.models.small import build_model
from rollingq_core.runs.description import RunDescription, few
from rollingq_core.runs.run import train
from rollingq_core.runs.sweep import sweep
from rollingq_core.settings import SETTINGS, Setting, TrainingConfig
from rollingq_core.theory import random_tokens
from rollingq_core.training import Machine, fit, load_checkpoint
from tests.small import SETTING, SIZES, TRAINING, small_data, small_model

SMALL = {"dim": 8, "hidden": 8, "token_dim": 8, "num_tokens": 4}
CONCAT = {"dim": 8, "num_classes": 4, "modalities": 2}
VIT = {"channels": 1, "dim": 8, "depth": 1, "num_heads": 1}
PLACES = {
    **{
        f"TrainingConfig.{name}": lambda n, name=name: TrainingConfig(**{name: n})
        for name in ("epochs", "pretrain_epochs", "batch_size", "seed")
    },
    **{
        f"Setting.{name}": lambda n, name=name: Setting(TRAINING, 1.0, **{name: n})
        for name in ("max_rotations", "start_epoch", "spacing", "dim")
    },
    **{
        f"Machine.{name}": lambda n, name=name: Machine(**{name: n})
        for name in ("accumulate", "workers", "devices", "nodes")
    },
    **{
        f"TokenMLP.{name}": lambda n, name=name: TokenMLP(**SMALL | {name: n}) for name in SMALL
    },
    **{
        f"ConcatFusion.{name}": lambda n, name=name: ConcatFusion(**CONCAT | {name: n})
        for name in CONCAT
    },
    "OGM.seed": lambda n: OGM(static_model(), seed=n),
    **{
        f"PMR.{name}": lambda n, name=name: PMR(**{name: n}) for name in ("batch_size", "seed")
    },
    "TokenMLP.patch": lambda n: TokenMLP(8, 4, patch=(n, 2)),
    **{
        f"small_vit.{name}": lambda n, name=name: small_vit((8, 8), (4, 4), **VIT | {name: n})
        for name in VIT
    },
    "small_vit.input_size": lambda n: small_vit((8, n), (4, 4)),
    "small_vit.patch": lambda n: small_vit((8, 8), (4, n)),
    "vit_b16.depth": lambda n: vit_b16((32, 32), channels=1, depth=n),
    "vit_b16.channels": lambda n: vit_b16((32, 32), channels=n),
    **{
        f"synthetic.{name}": lambda n, name=name: load_dataset("synthetic", **SIZES | {name: n})
        for name in (*SIZES, "seed")
    },
    "corrupt_splits.seed": lambda n: corrupt_splits([], {}, 0.1, n),
    "balanced_choice.count": lambda n: balanced_choice(
        np.zeros(9, int), n, np.random.default_rng(0)
    ),
    "batches.batch_size": lambda n: batches(small_data().train, n),
    "predict.batch_size": lambda n: predict(small_model(), small_data().test, n),
    "model.num_classes": lambda n: MultimodalModel({}, small_model().fusion, n),
    "build_model.seed": lambda n: build_model(small_data(), SETTING, n),
    "build_small_paper_model.seed": lambda n: build_small_paper_model(grids(), seed=n),
    "train.seed": lambda n: train("mt", small_data(), setting=SETTING, seed=n),
    "RunDescription.seed": lambda n: RunDescription("digits", "mt", "smoke", n, SETTING),
    "few.samples": lambda n: few(small_data(), n),
    "sweep.batch": lambda n: small_sweep(batch=n),
    "sweep.n_jobs": lambda n: small_sweep(n_jobs=n),
    "sweep.seeds": lambda n: small_sweep(seeds=[n]),
    "random_tokens.draws": lambda n: random_tokens(n, 8, [4], torch.Generator()),
    "random_tokens.dim": lambda n: random_tokens(2, n, [4], torch.Generator()),
    "random_tokens.counts": lambda n: random_tokens(2, 8, [n], torch.Generator()),
}  # fmt: skip


def static_model():
    return build_model(small_data(), SETTING, 0, fusion=ConcatFusion.of_shape)


def grids():
    return load_dataset("digits")


def small_sweep(seeds=(0,), **options):
    return sweep("synthetic", SETTING, seeds, report=None, progress=False, **SIZES, **options)


@pytest.mark.parametrize("value", [1.5, 2.0, "2", True, None, -1.0])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_integer_is_refused_by_name(place, value):
    name = place.partition(".")[2]
    with pytest.raises(ValueError, match=rf"{name}: got {value!r}, expected an integer"):
        PLACES[place](value)


@pytest.mark.parametrize("place", [p for p in PLACES if p != "sweep.n_jobs"])
def test_a_negative_count_is_refused_by_name(place):
    name = place.partition(".")[2]
    with pytest.raises(ValueError, match=rf"{name}: got -2, expected an integer of at least [012]"):
        PLACES[place](-2)


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("cls_std", 0.0, "above 0"),
        ("rho", 0.0, "above 0"),
        ("rho", float("nan"), "above 0"),
        ("beta", -0.1, "of at least 0"),
        ("beta", float("inf"), "of at least 0"),
    ],
)
def test_a_settings_numbers_are_checked_as_it_is_made(name, value, bound):
    with pytest.raises(ValueError, match=f"{name}: got {value}, expected a finite number {bound}"):
        replace(SETTING, **{name: value})


def test_numbers_of_numpy_are_taken_and_kept_as_plain_ones(tmp_path):
    config = TrainingConfig(
        epochs=np.int64(1), batch_size=np.int32(16), lr=np.float64(0.01), seed=np.uint8(3)
    )
    assert [type(x) for x in (config.epochs, config.batch_size, config.lr, config.seed)] == [
        int, int, float, int,
    ]  # fmt: skip
    fit(small_model(), small_data(), config, checkpoint=tmp_path / "run.pt")
    assert load_checkpoint(tmp_path / "run.pt")["identity"]["training"]["epochs"] == 1
    setting = replace(SETTINGS["T"], rho=np.float32(2.0), dim=np.int64(8))
    assert (type(setting.rho), type(setting.dim)) == (float, int)


@pytest.mark.parametrize("seed", [2**32, 10**20])
def test_a_seed_is_one_that_every_generator_takes(seed):
    with pytest.raises(ValueError, match=f"seed: got {seed}, expected an integer of at least 0"):
        TrainingConfig(seed=seed)
    with pytest.raises(ValueError, match=f"seed: got {seed}, expected an integer of at least 0"):
        RunDescription("digits", "mt", "smoke", seed, SETTING)


def test_too_many_processes_for_a_cpu_are_refused():
    with pytest.raises(ValueError, match=r"devices: got 9999, expected an integer .* at most"):
        Machine(devices=9999)
    with pytest.raises(ValueError, match="timeout: got 0, expected a finite number above 0"):
        Machine(timeout=0)


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="num_heads: got 3, expected a divisor of dim 8"):
        small_vit((8, 8), (4, 4), dim=8, num_heads=3)
    with pytest.raises(ValueError, match="patch: got 4, expected a height and a width"):
        TokenMLP(8, 4, patch=4)
