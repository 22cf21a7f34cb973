"""RollingQ beside training: that it watches the model in training, and what is kept of it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rollingq_core.model import MultimodalModel
from rollingq_core.recipe import TrainingConfig
from rollingq_core.rolling import RollingQ

if TYPE_CHECKING:  # what trains needs more than torch, what watches does not
    from rollingq_core.data.dataset import DataSplits

OPTIONS = ("rho", "beta", "max_rotations", "start_epoch", "spacing", "estimate", "rotation")


def observer(model: MultimodalModel, rolling: RollingQ | None) -> RollingQ:
    """Return ``rolling``, or where it is None one that watches the model and never rotates.

    Raises
    ------
    ValueError
        ``rolling`` is bound to a layer of another model, which it would rotate instead.
    """
    if rolling is None:
        return RollingQ(model.fusion, rho=1.0, beta=0.0, max_rotations=0)
    if not any(module is rolling.module for module in model.fusion.modules()):
        turned = rolling.module
        raise ValueError(
            f"rolling: got one bound to a layer outside of this model (d = {turned.dim}, "
            f"{int(turned.count)} rotations so far), expected it bound to the "
            f"{type(model.fusion).__name__} that is trained here: RollingQ(model.fusion, ...)"
        )
    return rolling


def attention(model: MultimodalModel) -> str | None:
    """Return the fusion's kind of attention, where it has several."""
    return getattr(model.fusion, "mode", None)


def run_identity(
    model: MultimodalModel, data: "DataSplits", config: TrainingConfig, rolling: RollingQ | None
) -> dict[str, Any]:
    """Return what two runs must share for one to go on from the other's checkpoint."""
    rolling = observer(model, rolling)
    schedule = None if rolling.schedule is None else list(map(asdict, rolling.schedule.values()))
    options = {name: getattr(rolling, name) for name in OPTIONS}
    return {
        "training": asdict(config),
        "data_hash": data.data_hash,
        "attention": attention(model),
        "rolling": options | {"schedule": schedule},
    }


def close_observation(rolling: RollingQ, modalities: Sequence[str]) -> dict[str, Any]:
    """End RollingQ's epoch, and return what the history keeps of it.

    Where no sample had a token in every modality there is nothing to expect, nothing turns, and
    ``air``, ``query_norm`` and each modality's cosine are None.
    """
    event = rolling.end_epoch()
    seen = rolling.last
    cosines = [None] * len(modalities) if seen is None else seen.cosines.tolist()
    return {
        "air": None if seen is None else seen.air,
        "query_norm": None if seen is None else float(seen.query.norm()),
        "cosines": dict(zip(modalities, cosines, strict=True)),
        "rotation": asdict(event) if event else None,
    }
