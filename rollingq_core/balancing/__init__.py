"""Methods that balance modalities in training, as observers of one loop."""

from rollingq_core._extras import needs

with needs("train"):
    from rollingq_core.balancing.frozen import Frozen
    from rollingq_core.balancing.length import MatchedLength
    from rollingq_core.balancing.ogm import OGM
    from rollingq_core.balancing.pmr import PMR
    from rollingq_core.balancing.progressive import Progressive
    from rollingq_core.balancing.rolling import Rolling
    from rollingq_core.balancing.temperature import Temperature
    from rollingq_core.balancing.unimodal import UnimodalLosses

__all__ = [
    "OGM",
    "PMR",
    "Frozen",
    "MatchedLength",
    "Progressive",
    "Rolling",
    "Temperature",
    "UnimodalLosses",
]
