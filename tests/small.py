"""Data, models and settings so small that a training run takes a fraction of a second."""

import torch

from rollingq_core import AttentionFusion, RollingQ
from rollingq_core.balancing import Rolling
from rollingq_core.data import DataSplits, load_dataset
from rollingq_core.models.encoders import TokenMLP
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.settings import Setting, TrainingConfig
from rollingq_core.training import Machine, fit

# Four tokens of eight features in each modality, four classes.
SIZES = {
    "classes": 4,
    "tokens": 4,
    "features": 8,
    "train_samples": 80,
    "validation_samples": 40,
    "test_samples": 60,
}
TRAINING = TrainingConfig(epochs=3, pretrain_epochs=1, batch_size=32, lr=0.02, selection="last")
MACHINE = tuple(Machine.__dataclass_fields__)
DROPOUT = {"attention_dropout": 0.2, "output_dropout": 0.2}
SETTING = Setting(TRAINING, cls_std=1.0, beta=0.0, start_epoch=0, spacing=1, dim=8)


def small_data(seed: int = 0, **options) -> DataSplits:
    return load_dataset("synthetic", seed=seed, **{**SIZES, **options})


def splits_of(data: DataSplits) -> tuple:
    return data.train, data.validation, data.test


def small_model(seed: int = 0, pool: str = "mean", **fusion_options) -> MultimodalModel:
    torch.manual_seed(seed)
    encoders = {name: TokenMLP(8, 4, dim=8, hidden=16) for name in ("audio", "visual")}
    fusion = AttentionFusion(8, 4, cls_std=1.0, **fusion_options)
    return MultimodalModel(encoders, fusion, 4, pool)


def train(data, config=TRAINING, fusion=None, rolling=None, **options):
    """Return a trained model, fit's result, and RollingQ where ``rolling`` has its options."""
    model = small_model(**(fusion or {}))
    rolled, observers = None, []
    if rolling is not None:
        settings = {"rho": 3.0, "beta": 0.0, "max_rotations": 2, **rolling}
        rolled = RollingQ(model.fusion, **settings)
        observers = [Rolling(rolled)]
    of_machine = {name: options.pop(name) for name in MACHINE if name in options}
    torch.seed()  # whatever the state before, fit starts from its own seed
    machine = Machine(**of_machine)
    result = fit(model, data, config, observers=observers, machine=machine, **options)
    return model, result, rolled


def assert_same_state(left: dict, right: dict) -> None:
    """Assert that two ``state_dict``s agree bit for bit."""
    assert list(left) == list(right)
    for name, value in left.items():
        assert torch.equal(value, right[name]), name
