"""Fusion layers: from the tokens of several modalities to one prediction."""

from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.concat import ConcatFusion
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.fusion.shape import FusionShape

__all__ = ["AttentionFusion", "ConcatFusion", "FusionOutput", "FusionShape"]
