"""Numbers: how to train, and the settings in which the book studies RollingQ."""

from dataclasses import dataclass, replace
from typing import Literal

from rollingq_core._checks import require_choice, require_integer, require_number

# What every generator of random numbers takes.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; the defaults are the paper's where it names them.

    Parameters
    ----------
    epochs
        Epochs of fusion training, in which the probes read detached features.
    pretrain_epochs
        Epochs before, in which each encoder learns through its own probe alone.
    batch_size, lr, momentum, weight_decay
        Batch size and SGD's settings.
    warmup_epochs
        Linear warm-up; then a cosine to 0 over all that remains of both stages, step by step.
    seed
        Seed of the data's order and of dropout.
    selection
        The epoch whose weights are kept: ``"best"`` on the validation split (accuracy, then loss)
        or the ``"last"``.

    Raises
    ------
    ValueError
        A number out of range, or one that is no integer where one counts.
    """

    epochs: int = 30
    pretrain_epochs: int = 0
    batch_size: int = 64
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 0.0
    seed: int = 0
    selection: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        # Plain numbers, as a checkpoint holds no others.
        for name, least in (("epochs", 1), ("pretrain_epochs", 0), ("batch_size", 1)):
            self._keep(name, require_integer(name, getattr(self, name), at_least=least))
        self._keep("seed", require_integer("seed", self.seed, at_least=0, at_most=LARGEST_SEED))
        self._keep("lr", require_number("lr", self.lr, above=0))
        for name in ("momentum", "weight_decay", "warmup_epochs"):
            self._keep(name, require_number(name, getattr(self, name), at_least=0))
        require_choice("selection", self.selection, ("best", "last"))

    def _keep(self, name: str, value: float) -> None:
        object.__setattr__(self, name, value)


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
# On frozen ImageNet features, with the published class token and the paper's limits on rotations.
_IMAGENET = Setting(replace(_SGD, epochs=30, lr=1e-2), cls_std=0.02, max_rotations=1)
SETTINGS |= {"I": _IMAGENET, "I3": replace(_IMAGENET, max_rotations=3)}
# The paper's. Neither rho nor beta is stated in the paper or in its code; one rotation is, for
# CREMA-D.
PAPER = Setting(
    TrainingConfig(
        epochs=30, batch_size=64, lr=1e-3, momentum=0.9, weight_decay=1e-4, warmup_epochs=2.5
    ),
    cls_std=0.02,
    rho=3.0,
    beta=0.1,
    max_rotations=1,
    start_epoch=0,
    spacing=1,
    dim=768,
)
# How often the paper turns at most, where that is not once (its Appendix B), and the width of its
# transformers for sequences.
PAPER_ROTATIONS = {"kinetics_sounds": 3}
SEQUENCE_DIM = 120
# For tests: seconds, and a rotation after the only epoch.
SMOKE = Setting(
    TrainingConfig(epochs=1, batch_size=16),
    cls_std=0.02,
    beta=0.0,
    start_epoch=0,
    spacing=1,
    dim=32,
)
