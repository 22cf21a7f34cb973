"""The training loop: an optional pretraining of the encoders, then fusion with Algorithm 1."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from rollingq_core._checks import require_number
from rollingq_core.checkpoint import RunState
from rollingq_core.data.dataset import DataSplits
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


def fit(
    model: MultimodalModel,
    data: DataSplits,
    config: TrainingConfig,
    rolling: RollingQ | None = None,
    *,
    checkpoint: str | Path | None = None,
    progress: bool = False,
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
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    wrapped, optimizer = fabric.setup(model, optimizer)
    steps = math.ceil(len(data.train) / config.batch_size)
    total = config.pretrain_epochs + config.epochs
    warmup = int(config.warmup_epochs * steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer.optimizer, lambda step: learning_rate_factor(step, total * steps, warmup)
    )
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "rolling": rolling}
    run = RunState(_identity(config, data, rolling), parts, config.selection)
    if checkpoint is not None and Path(checkpoint).exists():
        run.resume(checkpoint, fabric.device)

    bar = tqdm(range(total), initial=len(run.history), total=total, disable=not progress)
    for epoch in range(len(run.history), total):
        fusing = epoch >= config.pretrain_epochs
        order = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
        loader = fabric.setup_dataloaders(batches(data.train, config.batch_size, order))
        lr = scheduler.get_last_lr()[0]
        meters = _Meters(model)
        wrapped.train()
        for inputs, labels in loader:
            output = wrapped(inputs, fuse=fusing, detach_probes=fusing)
            loss = total_loss(output, labels)
            optimizer.zero_grad()
            fabric.backward(loss)
            meters.update(model, output, labels, loss)
            optimizer.step()
            scheduler.step()
            if fusing:
                rolling.observe(output.fusion)
        record = {"epoch": epoch, "stage": "fusion" if fusing else "pretraining", "lr": lr}
        record |= meters.compute()
        if not math.isfinite(record["train_loss"]):
            raise ValueError(f"loss: got {record['train_loss']} in epoch {epoch}, expected finite")
        if fusing:
            event = rolling.end_epoch()
            record |= {
                "air": rolling.last.air,
                "query_norm": float(rolling.last.query.norm()),
                "cosines": dict(zip(model.modalities, rolling.last.cosines.tolist(), strict=True)),
                "rotation": asdict(event) if event else None,
            }
            judged = predict(model, data.validation)
            record |= {"validation_loss": judged.loss, "validation_accuracy": judged.accuracy}
        run.close_epoch(record)
        if checkpoint is not None:
            run.save(checkpoint)
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


def total_loss(output: ModelOutput, labels: Tensor) -> Tensor:
    """Sum of the cross-entropies of the fusion (where it ran) and of every probe."""
    logits = list(output.probes.values())
    if output.fusion is not None:
        logits.append(output.fusion.logits)
    return sum(cross_entropy(one, labels) for one in logits)


class _Meters:
    """Sums over one epoch, kept on the device and read once at its end."""

    def __init__(self, model: MultimodalModel) -> None:
        self.samples = self.steps = 0
        self.loss = self.right = self.share = 0.0
        self.gradients = dict.fromkeys(model.modalities, 0.0)

    @torch.no_grad()
    def update(
        self, model: MultimodalModel, output: ModelOutput, labels: Tensor, loss: Tensor
    ) -> None:
        size = len(labels)
        self.samples, self.steps = self.samples + size, self.steps + 1
        fusion = output.fusion
        self.loss = self.loss + size * (
            loss if fusion is None else cross_entropy(fusion.logits, labels)
        )
        for name in self.gradients:
            found = [p.grad for p in model.encoders[name].parameters() if p.grad is not None]
            self.gradients[name] = self.gradients[name] + nn.utils.get_total_norm(found)
        if fusion is not None:
            self.right = self.right + (fusion.logits.argmax(dim=1) == labels).sum()
            self.share = self.share + fusion.share.sum(dim=0)

    def compute(self) -> dict[str, Any]:
        names = tuple(self.gradients)
        record = {
            "train_loss": float(self.loss) / self.samples,
            "gradient_norm": {n: float(g) / self.steps for n, g in self.gradients.items()},
        }
        if isinstance(self.share, Tensor):
            shares = (self.share / self.samples).tolist()
            record["train_accuracy"] = float(self.right) / self.samples
            record["share"] = dict(zip(names, shares, strict=True))
        return record
