"""The settings in which the book studies RollingQ on a CPU, and one run of each method in them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from rollingq_core._checks import require_choice, require_integer, require_number
from rollingq_core._extras import needs
from rollingq_core._padding import separated
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.model import MultimodalModel
from rollingq_core.recipe import TrainingConfig
from rollingq_core.rolling import RollingQ, RotationEvent

with needs("train"):
    from rollingq_core.data.dataset import DataSplits
    from rollingq_core.encoders import TokenMLP
    from rollingq_core.training import TrainingResult, fit

METHODS = ("vanilla", "rollingq", "random_matched", "random_free", "uniform")


@dataclass(frozen=True)
class Setting:
    """A model, a way to train it, and RollingQ's settings in it.

    Parameters
    ----------
    training
        Epochs, optimiser and selection.
    cls_std
        Standard deviation of the class token at the start.
    rho, beta, max_rotations, start_epoch, spacing
        Algorithm 1; epochs are counted from the start of fusion.
    positions
        Whether the encoders have position embeddings.
    dim
        Token dimension d.

    Raises
    ------
    ValueError
        A number out of range, or one that is no integer where one counts.
    """

    training: TrainingConfig
    cls_std: float
    rho: float = 3.0
    beta: float = 0.05
    max_rotations: int = 6
    start_epoch: int = 2
    spacing: int = 2
    positions: bool = True
    dim: int = 32

    def __post_init__(self) -> None:
        # Plain numbers, as a checkpoint holds no others.
        for name in ("cls_std", "rho"):
            self._keep(name, require_number(name, getattr(self, name), above=0))
        self._keep("beta", require_number("beta", self.beta, at_least=0))
        counts = {"max_rotations": 0, "start_epoch": 0, "spacing": 1, "dim": 2}
        for name, least in counts.items():
            self._keep(name, require_integer(name, getattr(self, name), at_least=least))

    def _keep(self, name: str, value: float) -> None:
        object.__setattr__(self, name, value)


# The last epoch is kept, at which the cosine has reached 0: nothing is selected, so that the
# methods differ in nothing else.
_SGD = TrainingConfig(
    epochs=40, batch_size=64, lr=7e-3, momentum=0.9, weight_decay=1e-4, selection="last"
)

SETTINGS = {
    # Synthetic tokens.
    "T": Setting(
        replace(_SGD, lr=1e-2, epochs=30),
        cls_std=1.0,
        beta=0.1,
        max_rotations=3,
        start_epoch=0,
        spacing=1,
        positions=False,
    ),
    # Encoders first pretrained through their probes, then fused: the paper's regime in small.
    "P": Setting(replace(_SGD, pretrain_epochs=15), cls_std=0.3),
    # Everything from scratch.
    "S": Setting(_SGD, cls_std=1.0),
}


class Run(NamedTuple):
    """A trained model with its data, history and rotations."""

    model: MultimodalModel
    data: DataSplits
    result: TrainingResult
    events: list[RotationEvent]


def build_model(
    data: DataSplits, setting: Setting, seed: int, *, uniform: bool = False
) -> MultimodalModel:
    """Return an untrained model for the data; the same seed gives the same weights.

    Parameters
    ----------
    data
        Decides the shapes.
    setting
        Width, class token and positions.
    seed
        Seed of the initial weights.
    uniform
        Whether attention is fixed to the same mass on each token (a control).
    """
    shapes = input_shapes(data)
    torch.manual_seed(require_integer("seed", seed, at_least=0))
    encoders = {}
    for name, shape in shapes.items():
        patch = data.patch[name] if data.patch else None
        if patch is None:
            num_tokens, token_dim = shape
        else:
            channels, height, width = shape
            num_tokens = (height // patch[0]) * (width // patch[1])
            token_dim = channels * patch[0] * patch[1]
        encoders[name] = TokenMLP(
            token_dim, num_tokens, dim=setting.dim, patch=patch, positions=setting.positions
        )
    fusion = AttentionFusion(
        setting.dim,
        len(data.classes),
        cls_std=setting.cls_std,
        mode="uniform" if uniform else "softmax",
    )
    return MultimodalModel(encoders, fusion, len(data.classes))


def input_shapes(data: DataSplits) -> dict[str, tuple[int, ...]]:
    """Return the shape of one sample, by modality."""
    inputs, _ = separated(data.train.__getitems__([0])[0])
    return {name: tuple(x.shape[1:]) for name, x in inputs.items()}


class Plan(NamedTuple):
    """A run that has not begun: an untrained model, how to train it, and its RollingQ if any."""

    model: MultimodalModel
    config: TrainingConfig
    rolling: RollingQ | None


def plan(
    method: str,
    data: DataSplits,
    setting: Setting,
    seed: int,
    schedule: Sequence[RotationEvent] | None = None,
    build: Callable[..., MultimodalModel] = build_model,
) -> Plan:
    """Return what :func:`run_method` is about to train.

    Its arguments are the same; ``build`` makes the model, as :func:`build_model` does.
    """
    require_choice("method", method, METHODS)
    model = build(data, setting, seed, uniform=method == "uniform")
    rolling = None
    if method not in ("vanilla", "uniform"):
        rolling = RollingQ(
            model.fusion,
            setting.rho,
            setting.beta,
            setting.max_rotations,
            start_epoch=setting.start_epoch,
            spacing=setting.spacing,
            rotation="minimal" if method == "rollingq" else method,
            schedule=schedule,
            seed=seed,
        )
    return Plan(model, replace(setting.training, seed=seed), rolling)


def run_method(
    method: str,
    data: DataSplits,
    setting: Setting,
    seed: int,
    *,
    schedule: Sequence[RotationEvent] | None = None,
    **options: Any,
) -> Run:
    """Train one model; all methods share initial weights and data order at the same seed.

    Parameters
    ----------
    method
        One of ``METHODS``: ``"vanilla"``, ``"rollingq"``, or a control.
    data, setting, seed
        What to train on, how, and the seed of weights, order and random directions.
    schedule
        For the random controls: the events of the RollingQ run to be paired with.
    **options
        Passed to :func:`rollingq_core.training.fit`, for example ``progress=True``.

    Raises
    ------
    ValueError
        No such method.
    """
    model, config, rolling = plan(method, data, setting, seed, schedule)
    with one_thread():
        result = fit(model, data, config, rolling, **options)
    return Run(model, data, result, rolling.events if rolling else [])


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread: on matrices this small, a second one is only waited for.

    It also makes the result independent of the number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
