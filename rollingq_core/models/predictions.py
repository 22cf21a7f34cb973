"""A model's answers over a whole dataset, batch by batch."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rollingq_core._checks import require_integer
from rollingq_core._padding import padding_name
from rollingq_core._tensors import require_labels
from rollingq_core.air import modality_cosines
from rollingq_core.models.multimodal import MultimodalModel


class Predictions(NamedTuple):
    """A model's answers on N samples, on the CPU.

    ``logits`` [N, C]; ``labels`` [N]; ``share`` [N, M], attention mass of each modality;
    ``cosines`` and ``key_norms`` [N, M], of the average keys with the query and alone (0 where a
    modality is missing); ``query`` [d], the mean query; ``probe_accuracy``, each probe's share of
    right answers. Numbers are float32, or wider where the model is. Where the fusion is static,
    all about attention is None.
    """

    logits: Tensor
    labels: Tensor
    share: Tensor | None
    cosines: Tensor | None
    key_norms: Tensor | None
    query: Tensor | None
    probe_accuracy: dict[str, float]

    @property
    def accuracy(self) -> float:
        """Share of right answers, in [0, 1]."""
        return float((self.logits.argmax(dim=1) == self.labels).float().mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(nn.functional.cross_entropy(self.logits.double(), self.labels))


@torch.no_grad()
def predict(
    model: MultimodalModel, dataset: Dataset, batch_size: int = 256, **options
) -> Predictions:
    """Run a model over a dataset, in evaluation mode, on the model's device, in its precision.

    Only a few numbers a sample are kept, so that memory does not grow with the tokens.

    Parameters
    ----------
    model
        The model; its mode is put back afterwards.
    dataset
        Samples as in :class:`rollingq_core.data.PairedDataset`.
    batch_size
        Samples at a time.
    **options
        Passed to :func:`batches`, for example ``num_workers``.

    Raises
    ------
    ValueError
        Labels that are none of the model's classes, or inputs that the model does not take.
    """
    like = next(model.parameters())
    training = model.training
    model.eval()
    taken = {*model.modalities, *map(padding_name, model.modalities)}
    right = dict.fromkeys(model.modalities, 0)
    columns: list[tuple[Tensor, ...]] = []
    query = torch.zeros(())
    for inputs, labels in batches(dataset, batch_size, classes=model.num_classes, **options):
        output = model({name: as_parameter(inputs[name], like) for name in inputs if name in taken})
        # In half precision, sums would be rounded and could overflow.
        fusion = output.fusion
        for name, logits in output.probes.items():
            right[name] += int((logits.argmax(dim=1).cpu() == labels).sum())
        row = [widened(fusion.logits)]
        if fusion.share is not None:
            row.append(widened(fusion.share))
        if fusion.query is not None and fusion.mean_keys is not None:
            queries, keys = widened(fusion.query), widened(fusion.mean_keys)
            query = query + queries.sum(0).cpu()
            row += [modality_cosines(queries, keys), keys.norm(dim=-1)]
        columns.append((labels, *(t.cpu() for t in row)))
    model.train(training)
    labels, logits, *attention = (torch.cat(c) for c in zip(*columns, strict=True))
    share = attention.pop(0) if fusion.share is not None else None
    cosines, norms = attention or (None, None)
    mean_query = query / len(labels) if attention else None
    rates = {name: count / len(labels) for name, count in right.items()}
    return Predictions(logits, labels, share, cosines, norms, mean_query, rates)


def widened(values: Tensor) -> Tensor:
    """Return ``values`` in float32, or as they are where that is as wide."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def as_parameter(values: Tensor, parameter: Tensor) -> Tensor:
    """Return an input on a parameter's device and, where both are real, in its dtype."""
    both = values.is_floating_point() and parameter.is_floating_point()
    return values.to(parameter.device, parameter.dtype if both else values.dtype)


def batches(
    dataset: Dataset,
    batch_size: int,
    order: torch.Generator | None = None,
    *,
    classes: int | None = None,
    **options: Any,
) -> DataLoader:
    """Return a loader of whole batches, shuffled when ``order`` is given.

    ``options`` are those of torch's ``DataLoader``. Labels that are not class indices, of so many
    ``classes`` where that is given, raise a ``ValueError`` as they are read.

    The dataset hands out a batch at once (``__getitems__``), so nothing is left to collate.
    """
    return DataLoader(
        dataset,
        batch_size=require_integer("batch_size", batch_size, at_least=1),
        shuffle=order is not None,
        generator=order,
        collate_fn=partial(_with_labels, classes),
        **options,
    )


def _with_labels(classes: int | None, batch: tuple[dict[str, Tensor], Tensor]):
    inputs, labels = batch
    require_labels("labels", labels, classes)
    return inputs, labels.long()
