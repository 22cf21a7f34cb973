"""Evaluating ten times as many samples takes no more memory, but for a few numbers a sample."""

import tracemalloc

import pytest
import torch
from torch.utils.data import Dataset

from benchmarks.measure import peak_tensor_bytes
from rollingq_core import AttentionFusion
from rollingq_core.evaluation import (
    attention_contrast,
    conflict,
    detection,
    masked_accuracy,
    quag,
    sensitivity,
    under_noise,
)
from rollingq_core.models.encoders import TokenMLP
from rollingq_core.models.multimodal import MultimodalModel

TOKENS, FEATURES, CLASSES = 64, 128, 10
NAMES = ("audio", "visual")


class Made(Dataset):
    """Samples made as they are read: none of them is held."""

    def __init__(self, count):
        self.labels = torch.arange(count) % CLASSES

    def __len__(self):
        return len(self.labels)

    def __getitems__(self, indices):
        wave = torch.linspace(0, 1, TOKENS * FEATURES).view(TOKENS, FEATURES)
        phase = (torch.as_tensor(indices) * 0.7).sin()[:, None, None]
        return {"audio": wave + phase, "visual": wave - phase}, self.labels[indices]


def made_model():
    torch.manual_seed(0)
    encoders = {name: TokenMLP(FEATURES, TOKENS, dim=4, hidden=4) for name in NAMES}
    return MultimodalModel(encoders, AttentionFusion(4, CLASSES, cls_std=1.0), CLASSES)


def noise(model, data):
    under_noise(model, data, "audio", (0.5,), draws=2)


def attention(model, data):
    found = sensitivity(*attention_contrast(model, data, "audio").share)
    assert found.low < found.high  # or nothing was drawn


def outsiders(model, data):
    detection(model, data, "audio")


def peak(evaluation, count):
    """Return the largest number of bytes in tensors, and in what numpy and Python hold."""
    model, others = made_model(), []
    sizes = iter((256, count))  # the first call warms up

    def call():
        data = Made(next(sizes))
        tracemalloc.start()
        try:
            evaluation(model, data)
            others.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()

    return peak_tensor_bytes(call) + others[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "evaluation", [noise, attention, conflict, masked_accuracy, quag, outsiders]
)
def test_ten_thousand_samples_take_the_memory_of_one_thousand(evaluation):
    small, large = (peak(evaluation, count) for count in (1_000, 10_000))
    assert large < 1.1 * small
