"""The training loop: an optional pretraining of the encoders, then fusion with its observers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, Dataset

from rollingq_core._extras import needs
from rollingq_core._ranks import OwnPart, own_part, rank, world_size
from rollingq_core.models.multimodal import ModelOutput, MultimodalModel
from rollingq_core.models.predictions import batches, predict
from rollingq_core.settings import TrainingConfig
from rollingq_core.training.checkpoint import RunState, run_identity
from rollingq_core.training.meters import Meters, batch_sums, gradient_norms, require_finite_in
from rollingq_core.training.observer import Observer, attention_mode, watched
from rollingq_core.training.optimisation import cosine_schedule, sgd
from rollingq_core.training.ticks import tick

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricModule

with needs("train"):
    from tqdm.auto import tqdm

    from rollingq_core.data.dataset import DataSplits
    from rollingq_core.training.machine import Machine
    from rollingq_core.training.processes import finish, lost_processes_named, seen_by_all


class TrainingResult(NamedTuple):
    """What :func:`fit` returns: one dict an epoch, and the epoch whose weights the model has."""

    history: list[dict[str, Any]]
    selected_epoch: int


def fit(
    model: MultimodalModel,
    data: DataSplits,
    config: TrainingConfig,
    *,
    observers: Sequence[Observer] = (),
    machine: Machine = Machine(),  # noqa: B008, as it is frozen
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    progress: bool = False,
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
    observers
        What has a part in the training, for example RollingQ:
        ``[Rolling(RollingQ(model.fusion, rho=3, beta=0.1, max_rotations=1))]``. Where none of them
        watches attention, and the model has some, it is watched all the same.
    machine
        What to train on.
    checkpoint
        File to write after each epoch. Where it exists, training goes on from it, bit for bit as
        if it had not stopped.
    on_epoch
        Called with each finished epoch's dict, after its checkpoint is written, by each process;
        what it raises ends the training.
    progress
        Whether to show a progress bar.

    Returns
    -------
    TrainingResult
        Each epoch's dict has ``epoch`` (from 0, over both stages), ``stage``, ``lr`` (at its
        first step), ``train_loss`` and ``gradient_norm`` (by modality, as the observers leave it,
        before it is clipped); those of fusion also ``train_accuracy``, ``validation_loss``,
        ``validation_accuracy``, and what the observers tell. With attention that is ``share`` and
        ``cosines`` (by modality), ``air``, ``query_norm``, and ``rotation`` (its event as a dict,
        or None; the event counts epochs from the start of fusion).

    Raises
    ------
    ValueError
        An option out of range, a checkpoint of another configuration, dataset or model, or values
        that are not finite.
    ConnectionError
        Another process has stopped.
    """
    data.require_classes(model.num_classes)
    observers = watched(model, tuple(observers))
    for observer in observers:
        observer.require_own(model)
    left_out = any(observer.leaves_out for observer in observers)
    unused = config.pretrain_epochs > 0 or attention_mode(model) == "uniform" or left_out
    fabric = machine.start(unused_parameters=unused)
    # The first process draws as a single one does.
    torch.manual_seed(config.seed + 1_000_003 * rank())
    optimizer = sgd(model.parameters(), config)
    trained: Any = torch.compile(model) if machine.compile else model
    wrapped, optimizer = fabric.setup(trained, optimizer)
    plain, scaling = optimizer.optimizer, fabric.strategy.precision
    scheduler = cosine_schedule(plain, config, len(data.train))
    holders = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "precision": scaling}
    holders |= {observer.name: observer for observer in observers}
    run = RunState(run_identity(model, data, config, observers, machine), holders, config.selection)
    with lost_processes_named(fabric):
        if checkpoint is not None and seen_by_all(checkpoint):
            run.resume(checkpoint, fabric.device)
    # Pinned memory is copied to a GPU while that computes.
    reading = {"num_workers": machine.workers, "pin_memory": fabric.device.type == "cuda"}
    reading = reading if machine.workers else {}
    total = config.pretrain_epochs + config.epochs
    hidden = not progress or rank() > 0
    shown = tqdm(initial=len(run.history), total=total, disable=hidden)
    # Closed before an error is told, which would stand in the bar's line.
    with lost_processes_named(fabric), shown as bar:
        for epoch in range(len(run.history), total):
            fusing = epoch >= config.pretrain_epochs
            acting = observers if fusing else ()
            if epoch == config.pretrain_epochs:
                for observer in acting:
                    observer.start(model, data.train)
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
                output, loss = _backward(
                    fabric, wrapped, inputs, labels, weight, machine.accumulate, fusing, acting
                )
                scaling.unscale_gradients(plain)
                # Where no sample is this process's, it has none to show.
                seen = output if own else output.each(lambda t: t[:0])
                for observer in acting:
                    observer.on_gradients(model, seen, labels[:own])
                norms = gradient_norms(model)
                if machine.precision == "16-mixed":  # its scaler leaves out steps that overflow
                    norms = norms.nan_to_num(nan=0, posinf=0)
                sums = batch_sums(norms, output.fusion, labels, loss)
                if machine.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), machine.clip)
                if not own:  # this sample is another process's
                    sums |= {
                        name: 0 * value for name, value in sums.items() if name != "gradient_norm"
                    }
                    output = _without_keys(output)
                meters.update(sums, own)
                optimizer.step()
                scheduler.step()
                for observer in acting:
                    observer.on_batch(output)
            record = {"epoch": epoch, "stage": "fusion" if fusing else "pretraining", "lr": lr}
            record |= meters.compute(epoch)
            for observer in acting:
                record |= observer.end_epoch(model, data.train) or {}
            for observer in acting:
                record |= observer.before_validation(model, data.validation) or {}
            if fusing:
                judged = predict(model, data.validation, **reading)
                require_finite_in("validation_loss", judged.loss, epoch)
                record["validation_loss"] = judged.loss
                record["validation_accuracy"] = judged.accuracy
            run.close_epoch(record)
            if checkpoint is not None:
                run.save(checkpoint)
            if on_epoch is not None:
                on_epoch(record)
            tick()
            bar.update()
            bar.set_postfix(loss=f"{record['train_loss']:.3f}", refresh=False)
    model.load_state_dict(run.best["model"])
    finish()
    return TrainingResult(run.history, run.best["epoch"])


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
    assert isinstance(loader.batch_sampler, BatchSampler)  # as there is a batch size
    own = OwnPart(loader.batch_sampler)
    collate = loader.collate_fn
    return DataLoader(dataset, batch_sampler=own, generator=order, collate_fn=collate, **options)


def _backward(
    fabric: "Fabric",
    wrapped: "_FabricModule",
    inputs: dict[str, Tensor],
    labels: Tensor,
    weight: float,
    accumulate: int,
    fusing: bool,
    observers: Sequence[Observer],
) -> tuple[ModelOutput, Tensor]:
    """Add up the gradients of a batch in pieces, and return the detached output and the loss."""
    pieces = labels.chunk(accumulate)
    cut = {name: values.chunk(accumulate) for name, values in inputs.items()}
    outputs, losses = [], []
    for index, answers in enumerate(pieces):
        piece = {name: chunks[index] for name, chunks in cut.items()}
        # Processes exchange gradients once a batch.
        with fabric.no_backward_sync(wrapped, enabled=index < len(pieces) - 1):
            output = wrapped(piece, fuse=fusing, detach_probes=fusing)
            loss = total_loss(output, answers)
            for observer in observers:
                extra = observer.extra_loss(output, answers)
                loss = loss if extra is None else loss + extra
            fabric.backward(loss * (weight * (len(answers) / len(labels))))
        outputs.append(output.each(Tensor.detach))
        losses.append(loss.detach() * (len(answers) / len(labels)))
    return ModelOutput.joined(outputs), sum(losses)  # type: ignore[return-value]


def total_loss(output: ModelOutput, labels: Tensor) -> Tensor:
    """Sum of the cross-entropies of the fusion (where it ran) and of every probe."""
    logits = list(output.probes.values())
    if output.fusion is not None:
        logits.append(output.fusion.logits)
    return sum(cross_entropy(scores, labels) for scores in logits)  # type: ignore[return-value]


def _without_keys(output: ModelOutput) -> ModelOutput:
    """Return an output whose samples count as lacking every modality, and so not at all."""
    fusion = output.fusion
    if fusion is None or fusion.mean_keys is None:
        return output
    return output._replace(fusion=fusion._replace(mean_keys=0 * fusion.mean_keys))
