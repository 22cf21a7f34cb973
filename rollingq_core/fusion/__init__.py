"""Fusion layers: from the tokens of several modalities to one prediction."""

from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.output import FusionOutput

__all__ = ["AttentionFusion", "FusionOutput"]
