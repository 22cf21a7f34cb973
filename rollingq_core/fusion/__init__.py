"""Fusion layers: from the tokens of several modalities to one prediction."""

from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.concat import ConcatFusion
from rollingq_core.fusion.early import EarlyFusion
from rollingq_core.fusion.jmt import JointFusion
from rollingq_core.fusion.mbt import BottleneckFusion
from rollingq_core.fusion.mmml import CrossStreamFusion
from rollingq_core.fusion.modality_dropout import ModalityDropout
from rollingq_core.fusion.mult import CrossmodalFusion
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.fusion.shape import FusionShape
from rollingq_core.fusion.stack import StackFusion

__all__ = [
    "AttentionFusion",
    "BottleneckFusion",
    "ConcatFusion",
    "CrossStreamFusion",
    "CrossmodalFusion",
    "EarlyFusion",
    "FusionOutput",
    "FusionShape",
    "JointFusion",
    "ModalityDropout",
    "StackFusion",
]
