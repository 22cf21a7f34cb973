"""Data, models and settings so small that a training run takes a fraction of a second."""

import torch

from rollingq_core import AttentionFusion, RollingQ
from rollingq_core.data import DataSplits, load_dataset
from rollingq_core.encoders import TokenMLP
from rollingq_core.model import MultimodalModel
from rollingq_core.settings import Setting
from rollingq_core.training import TrainingConfig, fit

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
DROPOUT = {"attention_dropout": 0.2, "output_dropout": 0.2}
SETTING = Setting(TRAINING, cls_std=1.0, beta=0.0, start_epoch=0, spacing=1, dim=8)


def small_data(seed: int = 0, **options) -> DataSplits:
    return load_dataset("synthetic", seed=seed, **{**SIZES, **options})


def small_model(seed: int = 0, pool: str = "mean", **fusion_options) -> MultimodalModel:
    torch.manual_seed(seed)
    encoders = {name: TokenMLP(8, 4, dim=8, hidden=16) for name in ("audio", "visual")}
    fusion = AttentionFusion(8, 4, cls_std=1.0, **fusion_options)
    return MultimodalModel(encoders, fusion, 4, pool)


def train(data, config=TRAINING, fusion=None, rolling=None, **options):
    """Return a trained model, fit's result, and RollingQ where ``rolling`` has its options."""
    model = small_model(**(fusion or {}))
    observer = None
    if rolling is not None:
        settings = {"rho": 3.0, "beta": 0.0, "max_rotations": 2, **rolling}
        observer = RollingQ(model.fusion, **settings)
    torch.seed()  # whatever the state before, fit starts from its own seed
    return model, fit(model, data, config, observer, **options), observer


def assert_same_state(left: dict, right: dict) -> None:
    """Assert that two ``state_dict``s agree bit for bit."""
    assert list(left) == list(right)
    for name, value in left.items():
        assert torch.equal(value, right[name]), name
