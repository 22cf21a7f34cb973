"""Evaluations: functions of a trained model and a dataset that return plain numbers."""

from rollingq_core.evaluation.attention import AttentionContrast, attention_contrast
from rollingq_core.evaluation.noise import NoiseResponse, mix_noise, replace_with_noise, under_noise

__all__ = [
    "AttentionContrast",
    "NoiseResponse",
    "attention_contrast",
    "mix_noise",
    "replace_with_noise",
    "under_noise",
]
