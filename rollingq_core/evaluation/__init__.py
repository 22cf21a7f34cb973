"""Evaluations: functions of a trained model and a dataset that return plain numbers."""

from rollingq_core._extras import needs

with needs("train"):
    from rollingq_core.evaluation.attention import (
        AttentionContrast,
        Sensitivity,
        attention_contrast,
        sensitivity,
    )
    from rollingq_core.evaluation.calibration import Calibration, calibration
    from rollingq_core.evaluation.conflict import ConflictDataset, ConflictReport, conflict
    from rollingq_core.evaluation.cost import parameters, parameters_as_in_table4
    from rollingq_core.evaluation.noise import (
        LEVELS,
        NoiseResponse,
        NoisyDataset,
        robustness_areas,
        under_noise,
    )
    from rollingq_core.evaluation.reports import EVALUATIONS, Evaluation

__all__ = [
    "EVALUATIONS",
    "LEVELS",
    "AttentionContrast",
    "Calibration",
    "ConflictDataset",
    "ConflictReport",
    "Evaluation",
    "NoiseResponse",
    "NoisyDataset",
    "Sensitivity",
    "attention_contrast",
    "calibration",
    "conflict",
    "parameters",
    "parameters_as_in_table4",
    "robustness_areas",
    "sensitivity",
    "under_noise",
]
