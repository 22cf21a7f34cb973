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
    from rollingq_core.evaluation.cost import (
        Cost,
        cost,
        operations,
        operations_as_in_table4,
        parameters,
        parameters_as_in_table4,
    )
    from rollingq_core.evaluation.familiarity import Familiarity, average_keys, familiarity
    from rollingq_core.evaluation.masks import MaskedAccuracy, hidden, masked_accuracy
    from rollingq_core.evaluation.noise import (
        LEVELS,
        NoiseResponse,
        NoisyDataset,
        robustness_areas,
        under_noise,
    )
    from rollingq_core.evaluation.ood import (
        Detection,
        Separation,
        confidences,
        detection,
        generalised_entropy,
        separation,
    )
    from rollingq_core.evaluation.quag import Averaged, averaged, averaging, blocks_of, quag
    from rollingq_core.evaluation.reports import EVALUATIONS, Evaluation

__all__ = [
    "EVALUATIONS",
    "LEVELS",
    "AttentionContrast",
    "Averaged",
    "Calibration",
    "ConflictDataset",
    "ConflictReport",
    "Cost",
    "Detection",
    "Evaluation",
    "Familiarity",
    "MaskedAccuracy",
    "NoiseResponse",
    "NoisyDataset",
    "Sensitivity",
    "Separation",
    "attention_contrast",
    "average_keys",
    "averaged",
    "averaging",
    "blocks_of",
    "calibration",
    "confidences",
    "conflict",
    "cost",
    "detection",
    "familiarity",
    "generalised_entropy",
    "hidden",
    "masked_accuracy",
    "operations",
    "operations_as_in_table4",
    "parameters",
    "parameters_as_in_table4",
    "quag",
    "robustness_areas",
    "sensitivity",
    "separation",
    "under_noise",
]
