"""The defaults that a reader of the documentation counts on, each once."""

import inspect
from dataclasses import asdict

import pytest

from rollingq_core import AttentionFusion
from rollingq_core.balancing import OGM, PMR
from rollingq_core.data import synthetic
from rollingq_core.data.sources import Source
from rollingq_core.fusion.concat import ConcatFusion
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.methods import Method, attention, none
from rollingq_core.models.encoders import TokenMLP, small_vit, vit_b16
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.paper import build_paper_model, build_small_paper_model
from rollingq_core.models.predictions import batches, predict
from rollingq_core.models.small import build_model
from rollingq_core.runs.description import PROFILES
from rollingq_core.runs.folder import train_in
from rollingq_core.runs.run import prepare, train
from rollingq_core.runs.sweep import sweep
from rollingq_core.settings import PAPER, SETTINGS, Setting, TrainingConfig
from rollingq_core.theory import simultaneous_intervals
from rollingq_core.training import Machine, fit


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


PAPERS = {
    "epochs": 30, "pretrain_epochs": 0, "batch_size": 64, "lr": 1e-3, "momentum": 0.9,
    "weight_decay": 1e-4, "warmup_epochs": 0.0, "seed": 0, "selection": "best",
}  # fmt: skip
BOOKS = PAPERS | {"epochs": 40, "lr": 7e-3, "selection": "last"}
ROLLING = {"rho": 3.0, "beta": 0.05, "max_rotations": 6, "start_epoch": 2, "spacing": 2}
SHAPE = {"positions": True, "dim": 32}
# What a model is built of.
CHOICE = {"fusion": AttentionFusion.of_shape, "modalities": None}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (TrainingConfig, PAPERS),
        (Setting, ROLLING | SHAPE),
        (
            fit,
            {
                "observers": (), "machine": Machine(), "checkpoint": None, "on_epoch": None,
                "progress": False,
            },
        ),
        (
            Machine,
            {
                "accelerator": "cpu", "precision": "32-true", "devices": 1, "nodes": 1,
                "timeout": 1800.0, "compile": False, "accumulate": 1, "clip": None, "workers": 0,
            },
        ),
        (OGM, {"alpha": 0.3, "noise": False, "seed": 0}),
        (
            PMR,
            {
                "alpha": 1.0, "momentum": 0.2, "fraction": 0.1, "switch": "hard", "batch_size": 64,
                "seed": 0,
            },
        ),
        (ConcatFusion, {"modalities": 2, "pool": "mean"}),
        (
            FusionShape,
            {"pool": "mean", "cls_std": 0.02, "cls_self_key": False, "dropout": 0.0},
        ),
        (
            Method,
            {
                "fusion": attention, "observers": none, "modalities": None,
                "turns": False, "follows": None, "repeats": "rotations",
            },
        ),
        (train, {"setting": "P", "seed": 0, "schedule": None}),
        (
            train_in,
            {
                "data": None, "schedule": None, "watch": None, "machine": None,
                "progress": False,
            },
        ),
        (TokenMLP, {"dim": 32, "hidden": 64, "patch": None, "positions": True}),
        (small_vit, {"channels": 1, "dim": 32, "depth": 2, "num_heads": 2}),
        (
            vit_b16,
            {
                "depth": 4, "pretrained": False, "weights": None,
                "model_name": "vit_base_patch16_224.augreg_in21k",
            },
        ),
        (MultimodalModel, {"pool": "mean"}),
        (MultimodalModel.forward, {"fuse": True, "detach_probes": True}),
        (predict, {"batch_size": 256}),
        (batches, {"order": None, "classes": None}),
        (build_model, CHOICE),
        (prepare, {"schedule": None, "build": build_model}),
        (
            build_paper_model,
            {
                "cls_std": 0.02, "cls_self_key": False, "pretrained": False, "weights": None,
                "seed": 0, **CHOICE,
            },
        ),
        (build_small_paper_model, {"cls_std": 0.02, "dim": 32, "seed": 0, **CHOICE}),
        (
            sweep,
            {
                "over": None, "methods": ("mt+rollingq",), "batch": 32, "n_jobs": 1,
                "progress": True,
            },
        ),
        (simultaneous_intervals, {"level": 0.95}),
        (
            synthetic.load,
            {
                "seed": 0, "classes": 10, "tokens": 8, "features": 32, "audio_strength": 3.0,
                "visual_strength": 2.0, "signal_probability": 0.5, "train_samples": 2000,
                "validation_samples": 500, "test_samples": 2000,
            },
        ),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)  # fmt: skip
def test_defaults(function, expected):
    assert defaults(function) == expected


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            SETTINGS["T"],
            {
                "training": BOOKS | {"lr": 1e-2, "epochs": 30}, "cls_std": 1.0, **ROLLING,
                "beta": 0.1, "max_rotations": 3, "start_epoch": 0, "spacing": 1,
                "positions": False, "dim": 32,
            },
        ),
        (
            SETTINGS["P"],
            {"training": BOOKS | {"pretrain_epochs": 15}, "cls_std": 0.3, **ROLLING, **SHAPE},
        ),
        (SETTINGS["S"], {"training": BOOKS, "cls_std": 1.0, **ROLLING, **SHAPE}),
        (
            PAPER,
            {
                "training": PAPERS | {"warmup_epochs": 2.5}, "cls_std": 0.02, "rho": 3.0,
                "beta": 0.1, "max_rotations": 1, "start_epoch": 0, "spacing": 1,
                "positions": True, "dim": 768,
            },
        ),
        (
            PROFILES["smoke"].setting,
            {
                "training": PAPERS | {"epochs": 1, "batch_size": 16}, "cls_std": 0.02, **ROLLING,
                "beta": 0.0, "start_epoch": 0, "spacing": 1, **SHAPE,
            },
        ),
    ],
    ids=["T", "P", "S", "paper", "smoke"],
)  # fmt: skip
def test_settings(setting, expected):
    assert asdict(setting) == expected


def test_a_source_is_seeded_and_small():
    source = Source("tokens", "synthetic")
    assert (source.options, source.seeded, source.full_size) == ({}, True, False)


def test_profiles():
    found = {name: (p.accelerator, p.samples, p.pretrained) for name, p in PROFILES.items()}
    assert found == {
        "smoke": ("cpu", 64, False),
        "cpu": ("cpu", None, False),
        "gpu": ("auto", None, True),
    }
