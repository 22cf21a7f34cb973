"""Replicas of one model: what they have in common, so that they can be trained as one batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from rollingq_core.data import DataSplits
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.concat import ConcatFusion
from rollingq_core.models.encoders import TokenMLP
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.rotation import QueryRotation
from rollingq_core.settings import TrainingConfig
from rollingq_core.training.observer import Observer

# Kinds of modules that are the same in a batch of models. Others may draw, branch or keep
# statistics of a batch.
STACKABLE = (
    MultimodalModel,
    TokenMLP,
    AttentionFusion,
    ConcatFusion,
    QueryRotation,
    nn.Dropout,  # named by require_alike where it is in use
    nn.GELU,
    nn.Identity,
    nn.LayerNorm,
    nn.Linear,
    nn.ModuleDict,
    nn.Sequential,
)


class Replica(NamedTuple):
    """The arguments of one :func:`rollingq_core.training.fit`."""

    model: MultimodalModel
    data: DataSplits
    config: TrainingConfig
    observers: Sequence[Observer] = ()


def _traits(replica: Replica) -> dict[str, Any]:
    """Return what replicas that train together have in common."""
    plain = (bool, int, float, str, list, tuple)
    return {
        "architecture": [
            (type(m), {k: v for k, v in vars(m).items() if isinstance(v, plain)} | {"training": 0})
            for m in replica.model.modules()
        ],
        "configuration": replace(replica.config, seed=0),
        "data sizes": data_sizes(replica.data),
    }


def data_sizes(data: DataSplits) -> tuple:
    """Return the shapes of all that training reads: replicas of one batch share them."""
    sizes: list[tuple] = []
    for split in (data.train, data.validation):
        sample, _ = split.__getitems__([0])
        sizes.append((len(split), *((name, *values.shape) for name, values in sample.items())))
    return tuple(sizes)


def stackable(replica: Replica) -> bool:
    """Return whether a replica may be trained in a batch of them.

    Its modules are of the package's own kinds, which do the same in a batch of models as alone, and
    its observers say themselves (not by inheritance, as a subclass may do more) that they stack.
    """
    return all(type(module) in STACKABLE for module in replica.model.modules()) and all(
        vars(type(observer)).get("stacks", False) for observer in replica.observers
    )


def require_alike(replicas: Sequence[Replica]) -> None:
    """Raise ``ValueError`` when replicas can't be trained as one batch."""
    if not replicas:
        raise ValueError("replicas: got none, expected at least one")
    if len({id(replica.model) for replica in replicas}) < len(replicas):
        raise ValueError("replicas: got one model twice, expected a model each")
    for replica in replicas:
        replica.data.require_classes(replica.model.num_classes)
    first = _traits(replicas[0])
    for index, replica in enumerate(replicas):
        modules = [*replica.model.modules()]
        rates = [m.p for m in modules if isinstance(m, nn.Dropout)]
        rates += [getattr(m, "attention_dropout", 0) for m in modules]
        if any(rates):
            raise ValueError(f"replicas: got dropout in number {index}, expected none")
        for trait, value in _traits(replica).items():
            if value != first[trait]:
                raise ValueError(f"replicas: got another {trait} in number {index} than in 0")
