"""Replicas of one model, trained as one batch."""

import copy
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from rollingq_core.air import RunningExpectation
from rollingq_core.fusion.output import FusionOutput
from rollingq_core.models.predictions import batches
from rollingq_core.runs.replica import Replica, require_alike, stackable
from rollingq_core.training.checkpoint import RunState
from rollingq_core.training.loop import TrainingResult, fit, shuffled, total_loss
from rollingq_core.training.meters import Meters, batch_sums, require_finite_in
from rollingq_core.training.observer import watched
from rollingq_core.training.optimisation import cosine_schedule, sgd
from rollingq_core.training.ticks import tick


def fit_replicas(replicas: Sequence[Replica]) -> list[TrainingResult]:
    """Train replicas in place as one batch: as ``fit`` trains each, but for rounding.

    Where one has an observer or a module that does not stack, each is trained by ``fit``.

    Replicas that do not differ yet (equal weights, data and order) are trained once. They part
    after the epoch in which one's query turns as the other's does not.

    Parameters
    ----------
    replicas
        Models of one architecture on one device, datasets of the same sizes, and one
        configuration but for its seed. Replicas may share a dataset, but not a model.

    Raises
    ------
    ValueError
        No replica, replicas that differ in more, dropout (each run draws its own), a RollingQ that
        is bound to another model's layer, labels that are none of the classes, or values that are
        not finite.
    """
    if replicas and not all(map(stackable, replicas)):
        return [fit(r.model, r.data, r.config, observers=r.observers) for r in replicas]
    require_alike(replicas)
    model, data, config, _ = replicas[0]
    stack = _Stack(replicas)
    observers = [watched(r.model, tuple(r.observers)) for r in replicas]
    for replica, own in zip(replicas, observers, strict=True):
        for observer in own:
            observer.require_own(replica.model)
    runs = [
        RunState({}, {"model": stack.member(i)}, config.selection) for i in range(len(replicas))
    ]
    optimizer = sgd(stack.parameters.values(), config)
    scheduler = cosine_schedule(optimizer, config, len(data.train))
    for epoch in range(config.pretrain_epochs + config.epochs):
        fusing = epoch >= config.pretrain_epochs
        lr = scheduler.get_last_lr()[0]
        meters = Meters(model.modalities)
        observed: dict[str, Tensor] = {}
        last: dict[str, Tensor] = {}
        # Rows that share dataset and seed read one loader.
        places = [(id(r.data), r.config.seed) for r in stack.leaders]
        sources = dict(zip(places, stack.leaders, strict=True)).items()
        loaders = {
            place: shuffled(r.data.train, r.config, epoch, r.model.num_classes)
            for place, r in sources
        }
        for inputs, labels in _side_by_side(loaders, places, stack.device):
            loss, fusion = stack(inputs, labels, fuse=fusing)
            optimizer.zero_grad()
            loss.sum().backward()
            sums = vmap(_sums)(stack.gradient_norms(), fusion, labels, loss.detach())
            meters.update(sums, labels.shape[1])
            optimizer.step()
            scheduler.step()
            if "mean_keys" in fusion:
                last = vmap(_observation)(fusion["query"], fusion["mean_keys"])
                observed = {name: observed.get(name, 0) + value for name, value in last.items()}
        records: list[dict[str, Any]] = []
        for row, replica, acting in zip(stack.rows, replicas, observers, strict=True):
            row_meters = copy.copy(meters)
            row_meters.sums = _row(meters.sums, row)
            stage = "fusion" if fusing else "pretraining"
            records.append({"epoch": epoch, "stage": stage, "lr": lr} | row_meters.compute(epoch))
            for observer in acting if fusing else ():
                # What stacks has these.
                estimate = observer.estimate  # type: ignore[attr-defined]
                seen = last if estimate == "last_batch" else observed
                observer.running.sums = _row(seen, row)  # type: ignore[attr-defined]
                records[-1] |= observer.end_epoch(replica.model, replica.data.train) or {}
        stack.separate(optimizer)
        judged = _validate(stack) if fusing else {}  # with the query as turned just now
        for row, run, record in zip(stack.rows, runs, records, strict=True):
            scores = {name: float(values[row]) for name, values in judged.items()}
            require_finite_in(
                "validation_loss", scores.get("validation_loss", 0.0), record["epoch"]
            )
            run.close_epoch(record | scores)
        tick()
    for replica, run in zip(replicas, runs, strict=True):
        replica.model.load_state_dict(run.best["model"])
    return [TrainingResult(run.history, run.best["epoch"]) for run in runs]


class _Stack:
    """Many models as one: their tensors are stacked, a row for all replicas that are equal."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        # No dropout is left, so that evaluation mode changes nothing.
        self.template = copy.deepcopy(replicas[0].model).eval()
        self.replicas = replicas
        places = [(id(r.data), r.config.seed) for r in replicas]
        self._group(
            [
                (place, _bits(r.model.state_dict()))
                for place, r in zip(places, replicas, strict=True)
            ]
        )
        states = [leader.model.state_dict() for leader in self.leaders]
        self.state = {name: torch.stack([s[name] for s in states]) for name in states[0]}
        self.parameters = {name: self.state[name] for name, _ in self.template.named_parameters()}
        for stacked in self.parameters.values():
            stacked.requires_grad_()
        self.device = next(iter(self.state.values())).device

    def _group(self, keys: Sequence[Hashable]) -> None:
        first_place = {key: index for index, key in reversed([*enumerate(keys)])}
        firsts = sorted(first_place.values())
        self.rows = [firsts.index(first_place[key]) for key in keys]
        self.leaders = [self.replicas[first] for first in firsts]

    @torch.no_grad()
    def separate(self, optimizer: torch.optim.Optimizer) -> None:
        """Give a row of its own to each replica whose buffers are no longer those of its row."""
        buffers = [dict(r.model.named_buffers()) for r in self.replicas]
        rows, count = self.rows, len(self.leaders)
        self._group([(row, _bits(own)) for row, own in zip(rows, buffers, strict=True)])
        if len(self.leaders) > count:
            firsts = [self.rows.index(row) for row in range(len(self.leaders))]
            index = torch.tensor([rows[first] for first in firsts], device=self.device)
            for name, old in self.parameters.items():
                new = self.state[name] = old.detach()[index].requires_grad_()
                kept = optimizer.state.pop(old, {})
                optimizer.state[new] = {k: None if v is None else v[index] for k, v in kept.items()}
            self.parameters = {name: self.state[name] for name in self.parameters}
            optimizer.param_groups[0]["params"] = list(self.parameters.values())
        for name in buffers[0]:
            own = [dict(leader.model.named_buffers())[name] for leader in self.leaders]
            self.state[name] = torch.stack(own)

    def member(self, index: int) -> "_Member":
        """Return replica ``index`` as it stands in the stack."""
        return _Member(self, index)

    def __call__(
        self, inputs: dict[str, Tensor], labels: Tensor, *, fuse: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return each replica's loss [R], and what the fusion tells, by name, R as first axis."""

        def replica(state, inputs, labels):
            options = {"fuse": fuse, "detach_probes": fuse}
            output = functional_call(self.template, state, (inputs,), options)
            told = output.fusion._asdict() if fuse else {}
            known = {name: value for name, value in told.items() if value is not None}
            return total_loss(output, labels), known

        return vmap(replica)(self.state, inputs, labels)

    def gradient_norms(self) -> Tensor:
        """Return the gradient norm of each modality's encoder, ``[R, M]``."""
        norms = [
            [
                stacked.grad.flatten(1).norm(dim=1)
                for name, stacked in self.parameters.items()
                if name.startswith(f"encoders.{modality}.") and stacked.grad is not None
            ]
            for modality in self.template.modalities
        ]
        return torch.stack([torch.stack(own).norm(dim=0) for own in norms], dim=1)


class _Member(NamedTuple):
    stack: _Stack
    index: int  # type: ignore[assignment]  # in place of a tuple's method

    def state_dict(self) -> dict[str, Tensor]:
        return _row(self.stack.state, self.stack.rows[self.index])


def _bits(state: dict[str, Tensor]) -> bytes:
    return b"".join(t.detach().cpu().numpy().tobytes() for t in state.values())


def _sums(
    norms: Tensor, fusion: dict[str, Tensor], labels: Tensor, loss: Tensor
) -> dict[str, Tensor]:
    return batch_sums(norms, FusionOutput(**fusion) if fusion else None, labels, loss)


def _observation(query: Tensor, mean_keys: Tensor) -> dict[str, Tensor]:
    running = RunningExpectation()
    running.update(query, mean_keys)
    return running.sums


def _row(stacked: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: value[index].detach() for name, value in stacked.items()}


def _side_by_side(
    loaders: Mapping[Any, DataLoader], places: Sequence[Hashable], device: torch.device
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yield batches with a first axis of replicas; each reads the loader that its place names."""
    keys = list(loaders)
    index = torch.tensor([keys.index(place) for place in places], device=device)

    def spread(tensors: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack(list(tensors)).to(device)
        if len(keys) > 1:
            return stacked[index]
        return stacked.expand(len(places), *stacked.shape[1:])

    for step in zip(*loaders.values(), strict=True):
        names = step[0][0]
        yield (
            {name: spread([inputs[name] for inputs, _ in step]) for name in names},
            spread([labels for _, labels in step]),
        )


@torch.no_grad()
def _validate(stack: _Stack) -> dict[str, Tensor]:
    places, columns = [id(r.data) for r in stack.leaders], []
    sources = dict(zip(places, stack.leaders, strict=True)).items()
    loaders = {place: batches(r.data.validation, 256) for place, r in sources}
    for inputs, labels in _side_by_side(loaders, places, stack.device):
        columns.append((stack(inputs, labels, fuse=True)[1]["logits"], labels))
    logits, labels = (torch.cat(c, dim=1) for c in zip(*columns, strict=True))
    return {
        "validation_loss": vmap(cross_entropy)(logits.cpu().double(), labels.cpu()),
        "validation_accuracy": (logits.argmax(dim=2) == labels).float().mean(dim=1),
    }
