"""RollingQ: keep a multimodal Transformer from ignoring one of its inputs."""

from rollingq_core.air import attention_imbalance_rate
from rollingq_core.attach import Attached, attach, mean_keys
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.rolling import RollingQ, RotationEvent
from rollingq_core.rotation import (
    QueryRotation,
    anchor_weight,
    minimal_rotation,
    rebalance_anchor,
    svd_rotation,
)

__version__ = "0.1.0"

__all__ = [
    "Attached",
    "AttentionFusion",
    "FusionOutput",
    "QueryRotation",
    "RollingQ",
    "RotationEvent",
    "anchor_weight",
    "attach",
    "attention_imbalance_rate",
    "mean_keys",
    "minimal_rotation",
    "rebalance_anchor",
    "svd_rotation",
]
