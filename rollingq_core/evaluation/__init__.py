"""Evaluations: functions of a trained model and a dataset that return plain numbers."""

from rollingq_core.evaluation.attention import AttentionContrast, attention_contrast
from rollingq_core.evaluation.noise import NoiseResponse, NoisyDataset, under_noise

__all__ = [
    "AttentionContrast",
    "NoiseResponse",
    "NoisyDataset",
    "attention_contrast",
    "under_noise",
]
