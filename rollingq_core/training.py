"""The training loop: an optional pretraining of the encoders, then fusion with Algorithm 1."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from rollingq_core._checks import require_integer, require_number
from rollingq_core._extras import needs
from rollingq_core._ranks import OwnPart, own_part, rank, world_size
from rollingq_core.checkpoint import RunState
from rollingq_core.fusion.attention import FusionOutput
from rollingq_core.meters import Meters, batch_sums, gradient_norms, require_finite_in
from rollingq_core.model import ModelOutput, MultimodalModel, batches, predict
from rollingq_core.recipe import TrainingConfig, cosine_schedule, sgd
from rollingq_core.rolling import RollingQ

with needs("train"):
    from lightning_fabric import Fabric
    from tqdm.auto import tqdm

    from rollingq_core._launch import finish, lost_processes_named, seen_by_all, start
    from rollingq_core.data.dataset import DataSplits
    from rollingq_core.observer import attention, close_observation, observer, run_identity


class TrainingResult(NamedTuple):
    """What :func:`fit` returns: one dict an epoch, and the epoch whose weights the model has."""

    history: list[dict[str, Any]]
    selected_epoch: int


def shuffled(
    dataset: Dataset, config: TrainingConfig, epoch: int, classes: int, **options: Any
) -> DataLoader:
    """Return the batches of one epoch, whose order depends on ``config.seed`` and ``epoch``.

    Where several processes train, each gets its part of every batch.
    """
    order = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
    loader = batches(dataset, config.batch_size, order, classes=classes, **options)
    if world_size() == 1:
        return loader
    own = OwnPart(loader.batch_sampler)
    collate = loader.collate_fn
    return DataLoader(dataset, batch_sampler=own, generator=order, collate_fn=collate, **options)


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
    devices: int | str = 1,
    num_nodes: int = 1,
    timeout: float = 1800.0,
    compile: bool = False,
    accumulate: int = 1,
    clip: float | None = None,
    num_workers: int = 0,
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
        Called with each finished epoch's dict, after its checkpoint is written, by each process;
        what it raises ends the training.
    accelerator, precision
        Passed to Lightning Fabric, for example ``"cuda"`` and ``"bf16-mixed"``.
    devices, num_nodes
        Devices of each node, ``"auto"`` for all there are, and nodes. Each device has a process
        that runs the calling script up to here; together they train as one process would, each
        on its part of every batch. Only the first writes the checkpoint, which all must see.
    timeout
        Seconds after which a process that waits for another gives up.
    compile
        Whether to run the model through ``torch.compile``.
    accumulate
        Number of pieces that each batch is cut into, to need less memory; their gradients add up
        to the batch's.
    clip
        Largest norm of all gradients together; None leaves them.
    num_workers
        Processes that read ahead, for each process that trains.

    Returns
    -------
    TrainingResult
        Each epoch's dict has ``epoch`` (from 0, over both stages), ``stage``, ``lr`` (at its
        first step), ``train_loss`` and ``gradient_norm`` (by modality, before ``clip``); those of
        fusion also ``train_accuracy``, ``validation_loss``, ``validation_accuracy``, ``air``,
        ``query_norm``, ``share`` and ``cosines`` (by modality), and ``rotation`` (its event as a
        dict, or None; the event counts epochs from the start of fusion).

    Raises
    ------
    ValueError
        An option out of range, a checkpoint of another configuration, dataset or model, or values
        that are not finite.
    ConnectionError
        Another process has stopped.
    """
    require_integer("accumulate", accumulate, at_least=1)
    require_integer("num_workers", num_workers, at_least=0)
    if clip is not None:
        require_number("clip", clip, above=0)
    data.require_classes(model.num_classes)
    # Vanilla training is watched by the same observer, with no rotation allowed.
    rolling = observer(model, rolling)
    fabric = start(
        accelerator,
        precision,
        devices,
        num_nodes,
        timeout=timeout,
        unused_parameters=config.pretrain_epochs > 0 or attention(model) == "uniform",
    )
    # The first process draws as a single one does.
    torch.manual_seed(config.seed + 1_000_003 * rank())
    optimizer = sgd(model.parameters(), config)
    wrapped, optimizer = fabric.setup(torch.compile(model) if compile else model, optimizer)
    plain, scaling = optimizer.optimizer, fabric.strategy.precision
    scheduler = cosine_schedule(plain, config, len(data.train))
    total = config.pretrain_epochs + config.epochs
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "rolling": rolling}
    options = {"precision": precision, "accumulate": accumulate, "clip": clip}
    identity = run_identity(model, data, config, rolling) | {"options": options}
    run = RunState(identity, parts | {"precision": scaling}, config.selection)
    # Pinned memory is copied to a GPU while that computes.
    reading = {"num_workers": num_workers, "pin_memory": fabric.device.type == "cuda"}
    reading = reading if num_workers else {}
    hidden = not progress or rank() > 0
    with lost_processes_named(fabric):
        if checkpoint is not None and seen_by_all(checkpoint):
            run.resume(checkpoint, fabric.device)
    shown = tqdm(initial=len(run.history), total=total, disable=hidden)
    # Closed before an error is told, which would stand in the bar's line.
    with lost_processes_named(fabric), shown as bar:
        for epoch in range(len(run.history), total):
            fusing = epoch >= config.pretrain_epochs
            loader = fabric.setup_dataloaders(
                shuffled(data.train, config, epoch, model.num_classes, **reading),
                use_distributed_sampler=False,
            )
            lr = scheduler.get_last_lr()[0]
            meters = Meters(model.modalities)
            wrapped.train()
            for step, (inputs, labels) in enumerate(loader):
                size = min(config.batch_size, len(data.train) - step * config.batch_size)
                own = len(own_part(size))
                # The processes' gradients are averaged, whatever the sizes of their parts.
                weight = own / size * world_size()
                optimizer.zero_grad()
                fusion, loss = _backward(
                    fabric, wrapped, inputs, labels, weight, accumulate, fusing
                )
                scaling.unscale_gradients(plain)
                norms = gradient_norms(model)
                if precision == "16-mixed":  # its scaler leaves out steps that overflow
                    norms = norms.nan_to_num(nan=0, posinf=0)
                sums = batch_sums(norms, fusion, labels, loss)
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                if not own:  # this sample is another process's
                    sums |= {name: 0 * x for name, x in sums.items() if name != "gradient_norm"}
                    fusion = fusion and fusion._replace(mean_keys=0 * fusion.mean_keys)
                meters.update(sums, own)
                optimizer.step()
                scheduler.step()
                if fusing:
                    rolling.observe(fusion)
            record = {"epoch": epoch, "stage": "fusion" if fusing else "pretraining", "lr": lr}
            record |= meters.compute(epoch)
            if fusing:
                record |= close_observation(rolling, model.modalities)
                judged = predict(model, data.validation, **reading)
                require_finite_in("validation_loss", judged.loss, epoch)
                record["validation_loss"] = judged.loss
                record["validation_accuracy"] = judged.accuracy
            run.close_epoch(record)
            if checkpoint is not None:
                run.save(checkpoint)
            if on_epoch is not None:
                on_epoch(record)
            bar.update()
            bar.set_postfix(loss=f"{record['train_loss']:.3f}", refresh=False)
    model.load_state_dict(run.best["model"])
    finish()
    return TrainingResult(run.history, run.best["epoch"])


def _backward(
    fabric: Fabric,
    wrapped: nn.Module,
    inputs: dict[str, Tensor],
    labels: Tensor,
    weight: float,
    accumulate: int,
    fusing: bool,
) -> tuple[FusionOutput | None, Tensor]:
    """Add up the gradients of a batch in pieces, and return its fusion's output and its loss."""
    pieces = labels.chunk(accumulate)
    cut = {name: x.chunk(accumulate) for name, x in inputs.items()}
    fusions, losses = [], []
    for index, answers in enumerate(pieces):
        piece = {name: parts[index] for name, parts in cut.items()}
        # Processes exchange gradients once a batch.
        with fabric.no_backward_sync(wrapped, enabled=index < len(pieces) - 1):
            output = wrapped(piece, fuse=fusing, detach_probes=fusing)
            loss = total_loss(output, answers)
            fabric.backward(loss * (weight * (len(answers) / len(labels))))
        fusions.append(fusing and output.fusion._make(t.detach() for t in output.fusion))
        losses.append(loss.detach() * (len(answers) / len(labels)))
    if not fusing:
        return None, sum(losses)
    fusion = (
        fusions[0]
        if len(pieces) == 1
        else FusionOutput(*map(torch.cat, zip(*fusions, strict=True)))
    )
    return fusion, sum(losses)


def total_loss(output: ModelOutput, labels: Tensor) -> Tensor:
    """Sum of the cross-entropies of the fusion (where it ran) and of every probe."""
    logits = list(output.probes.values())
    if output.fusion is not None:
        logits.append(output.fusion.logits)
    return sum(cross_entropy(one, labels) for one in logits)
