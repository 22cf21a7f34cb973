"""The training loop: an optional pretraining of the encoders, then fusion with Algorithm 1."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from rollingq_core._checks import require_number
from rollingq_core.checkpoint import RunState
from rollingq_core.data.dataset import DataSplits
from rollingq_core.fusion.attention import FusionOutput
from rollingq_core.model import ModelOutput, MultimodalModel, batches, predict
from rollingq_core.rolling import RollingQ

ROLLING_OPTIONS = ("rho", "beta", "max_rotations", "start_epoch", "spacing", "estimate", "rotation")


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
        require_number("epochs", self.epochs, at_least=1)
        require_number("batch_size", self.batch_size, at_least=1)
        require_number("lr", self.lr, above=0)
        for name in ("pretrain_epochs", "momentum", "weight_decay", "warmup_epochs"):
            require_number(name, getattr(self, name), at_least=0)
        if self.selection not in ("best", "last"):
            raise ValueError(f"selection: got {self.selection!r}, expected 'best' or 'last'")


class TrainingResult(NamedTuple):
    """What :func:`fit` returns: one dict an epoch, and the epoch whose weights the model has."""

    history: list[dict[str, Any]]
    selected_epoch: int


def learning_rate_factor(step: int, total: int, warmup: int) -> float:
    """Return the factor on the learning rate: linear warm-up, then a cosine to 0 at ``total``."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def sgd(parameters: Iterable[Tensor], config: TrainingConfig) -> torch.optim.SGD:
    """Return the optimiser of ``config``."""
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        foreach=True,  # one call for all tensors, which a CPU would not choose by itself
    )


def cosine_schedule(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, samples: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the schedule of ``config``, step by step over both stages, for a training split."""
    steps = math.ceil(samples / config.batch_size)
    total = (config.pretrain_epochs + config.epochs) * steps
    warmup = int(config.warmup_epochs * steps)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, total, warmup)
    )


def shuffled(dataset: Dataset, config: TrainingConfig, epoch: int) -> DataLoader:
    """Return the batches of one epoch, whose order depends on ``config.seed`` and ``epoch``."""
    order = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
    return batches(dataset, config.batch_size, order)


def fit(
    model: MultimodalModel,
    data: DataSplits,
    config: TrainingConfig,
    rolling: RollingQ | None = None,
    *,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    accelerator: str = "cpu",
    precision: str = "32-true",
) -> TrainingResult:
    """Train ``model`` in place.

    Parameters
    ----------
    model
        The model.
    data
        Its training split teaches, its validation split selects; the test split is not read.
    config
        How to train.
    rolling
        Algorithm 1 on the model's fusion layer; None for the vanilla baseline.
    checkpoint
        File to write after each epoch. Where it exists, training goes on from it, bit for bit as
        if it had not stopped.
    progress
        Whether to show a progress bar.
    on_epoch
        Called with each finished epoch's dict, after its checkpoint is written; what it raises
        ends the training.
    accelerator, precision
        Passed to Lightning Fabric, for example ``"cuda"`` and ``"bf16-mixed"``.

    Returns
    -------
    TrainingResult
        Each epoch's dict has ``epoch`` (from 0, over both stages), ``stage``, ``lr`` (at its
        first step), ``train_loss`` and ``gradient_norm`` (by modality); those of fusion also
        ``train_accuracy``, ``validation_loss``, ``validation_accuracy``, ``air``, ``query_norm``,
        ``share`` and ``cosines`` (by modality), and ``rotation`` (its event as a dict, or None;
        the event counts epochs from the start of fusion).

    Raises
    ------
    ValueError
        A checkpoint of another configuration, dataset or model, or values that are not finite.
    """
    # Vanilla training is watched by the same observer, with no rotation allowed.
    rolling = rolling or RollingQ(model.fusion, rho=1.0, beta=0.0, max_rotations=0)
    fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    torch.manual_seed(config.seed)
    optimizer = sgd(model.parameters(), config)
    wrapped, optimizer = fabric.setup(model, optimizer)
    scheduler = cosine_schedule(optimizer.optimizer, config, len(data.train))
    total = config.pretrain_epochs + config.epochs
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "rolling": rolling}
    run = RunState(_identity(config, data, rolling), parts, config.selection)
    if checkpoint is not None and Path(checkpoint).exists():
        run.resume(checkpoint, fabric.device)

    bar = tqdm(range(total), initial=len(run.history), total=total, disable=not progress)
    for epoch in range(len(run.history), total):
        fusing = epoch >= config.pretrain_epochs
        loader = fabric.setup_dataloaders(shuffled(data.train, config, epoch))
        lr = scheduler.get_last_lr()[0]
        meters = Meters(model.modalities)
        wrapped.train()
        for inputs, labels in loader:
            output = wrapped(inputs, fuse=fusing, detach_probes=fusing)
            loss = total_loss(output, labels)
            optimizer.zero_grad()
            fabric.backward(loss)
            sums = batch_sums(gradient_norms(model), output.fusion, labels, loss)
            meters.update(sums, len(labels))
            optimizer.step()
            scheduler.step()
            if fusing:
                rolling.observe(output.fusion)
        record = {"epoch": epoch, "stage": "fusion" if fusing else "pretraining", "lr": lr}
        record |= meters.compute(epoch)
        if fusing:
            record |= close_observation(rolling, model.modalities)
            judged = predict(model, data.validation)
            record |= {"validation_loss": judged.loss, "validation_accuracy": judged.accuracy}
        run.close_epoch(record)
        if checkpoint is not None:
            run.save(checkpoint)
        if on_epoch is not None:
            on_epoch(record)
        bar.update()
        bar.set_postfix(loss=f"{record['train_loss']:.3f}", refresh=False)
    bar.close()
    model.load_state_dict(run.best["model"])
    return TrainingResult(run.history, run.best["epoch"])


def _identity(config: TrainingConfig, data: DataSplits, rolling: RollingQ) -> dict[str, Any]:
    """Return what two runs must share for one to go on from the other's checkpoint."""
    schedule = None if rolling.schedule is None else list(map(asdict, rolling.schedule.values()))
    options = {name: getattr(rolling, name) for name in ROLLING_OPTIONS}
    return {
        "training": asdict(config),
        "data_hash": data.data_hash,
        "rolling": options | {"schedule": schedule},
    }


def close_observation(rolling: RollingQ, modalities: Sequence[str]) -> dict[str, Any]:
    """End RollingQ's epoch, and return what the history keeps of it."""
    event = rolling.end_epoch()
    return {
        "air": rolling.last.air,
        "query_norm": float(rolling.last.query.norm()),
        "cosines": dict(zip(modalities, rolling.last.cosines.tolist(), strict=True)),
        "rotation": asdict(event) if event else None,
    }


def total_loss(output: ModelOutput, labels: Tensor) -> Tensor:
    """Sum of the cross-entropies of the fusion (where it ran) and of every probe."""
    logits = list(output.probes.values())
    if output.fusion is not None:
        logits.append(output.fusion.logits)
    return sum(cross_entropy(one, labels) for one in logits)


def gradient_norms(model: MultimodalModel) -> Tensor:
    """Return the gradient norm of each modality's encoder, ``[M]``."""
    found = [
        [p.grad for p in encoder.parameters() if p.grad is not None]
        for encoder in model.encoders.values()
    ]
    return torch.stack([nn.utils.get_total_norm(gradients) for gradients in found])


@torch.no_grad()
def batch_sums(
    norms: Tensor, fusion: FusionOutput | None, labels: Tensor, loss: Tensor
) -> dict[str, Tensor]:
    """Return what one batch adds to :class:`Meters`."""
    if fusion is None:
        return {"loss": len(labels) * loss, "gradient_norm": norms}
    return {
        "loss": len(labels) * cross_entropy(fusion.logits, labels),
        "gradient_norm": norms,
        "right": (fusion.logits.argmax(dim=1) == labels).sum(),
        "share": fusion.share.sum(dim=0),
    }


class Meters:
    """Sums over one epoch, kept on the device and read once at its end."""

    def __init__(self, modalities: Sequence[str]) -> None:
        self.modalities = modalities
        self.samples = self.steps = 0
        self.sums: dict[str, Tensor] = {}

    def update(self, sums: dict[str, Tensor], size: int) -> None:
        """Add :func:`batch_sums` of a batch of ``size`` samples."""
        self.samples, self.steps = self.samples + size, self.steps + 1
        self.sums = {name: self.sums.get(name, 0) + value for name, value in sums.items()}

    def compute(self, epoch: int) -> dict[str, Any]:
        """Return the epoch's means; a loss that is not finite raises a ``ValueError``."""
        loss = float(self.sums["loss"]) / self.samples
        if not math.isfinite(loss):
            raise ValueError(f"loss: got {loss} in epoch {epoch}, expected finite")
        record = {
            "train_loss": loss,
            "gradient_norm": self._by_modality("gradient_norm", self.steps),
        }
        if "right" in self.sums:
            record["train_accuracy"] = float(self.sums["right"]) / self.samples
            record["share"] = self._by_modality("share", self.samples)
        return record

    def _by_modality(self, name: str, count: int) -> dict[str, float]:
        means = (self.sums[name] / count).tolist()
        return dict(zip(self.modalities, means, strict=True))
