"""The whole model: one encoder a modality, the fusion layer, and a probe beside each encoder."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rollingq_core._checks import require_integer
from rollingq_core._padding import padding_name
from rollingq_core._tensors import require_labels
from rollingq_core.air import modality_cosines
from rollingq_core.fusion.attention import FusionOutput


class ModelOutput(NamedTuple):
    """What the model returns: the fusion's output, and each probe's logits ``[B, C]``."""

    fusion: FusionOutput | None
    probes: dict[str, Tensor]


class MultimodalModel(nn.Module):
    """Encoders, fusion, and probes that tell how good each modality's features are.

    A probe is a linear classifier on one encoder's pooled tokens. It reads them detached, so that
    it learns without teaching the encoder, unless the encoders are being pretrained.

    Parameters
    ----------
    encoders
        One module a modality, each giving tokens ``[B, L_m, d]``. Their order is that of the
        fusion's modalities.
    fusion
        A layer from a list of token tensors to a :class:`FusionOutput`; ``fusion.dim`` is d.
    num_classes
        Number of classes C.
    pool
        What a probe reads: ``"mean"`` of the tokens, or the ``"first"`` (a ViT's class token), each
        among those that are no padding; zeros where there is none.

    Raises
    ------
    ValueError
        No such pool, or a number of classes that is no integer above 0 or not the fusion's.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module,
        num_classes: int,
        pool: Literal["mean", "first"] = "mean",
    ) -> None:
        super().__init__()
        if pool not in ("mean", "first"):
            raise ValueError(f"pool: got {pool!r}, expected 'mean' or 'first'")
        require_integer("num_classes", num_classes, at_least=1)
        fused = getattr(getattr(fusion, "head", None), "out_features", num_classes)
        if fused != num_classes:
            raise ValueError(f"num_classes: got {num_classes}, expected the fusion's {fused}")
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.probes = nn.ModuleDict(
            {name: nn.Linear(fusion.dim, num_classes) for name in self.encoders}
        )
        self.pool, self.num_classes = pool, num_classes

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities in the fusion's order."""
        return tuple(self.encoders)

    def forward(
        self, inputs: Mapping[str, Tensor], *, fuse: bool = True, detach_probes: bool = True
    ) -> ModelOutput:
        """Run encoders, probes and, with ``fuse``, the fusion layer on one batch.

        Beside a modality, ``inputs`` may hold its padding, ``[B, L_m]`` bool, True where a token is
        padding, under the modality's name and ``_padding``. Such tokens change neither the fusion's
        output nor the probe's. An encoder that mixes tokens has seen them, though.

        Raises
        ------
        ValueError
            ``inputs`` lacks a modality, or padding does not fit the tokens.
        """
        missing = [name for name in self.encoders if name not in inputs]
        if missing:
            raise ValueError(f"inputs: got {list(inputs)}, expected also {missing}")
        masks = {name: inputs.get(padding_name(name)) for name in self.encoders}
        tokens, probes = {}, {}
        for name, encoder in self.encoders.items():
            tokens[name] = _without(encoder(inputs[name]), masks[name], padding_name(name))
        for name, z in tokens.items():
            pooled = _pooled(z, masks[name], self.pool)
            probes[name] = self.probes[name](pooled.detach() if detach_probes else pooled)
        if not fuse:
            return ModelOutput(None, probes)
        padded = any(mask is not None for mask in masks.values())
        options = {"key_padding_masks": list(masks.values())} if padded else {}
        return ModelOutput(self.fusion(list(tokens.values()), **options), probes)


def _without(tokens: Tensor, mask: Tensor | None, name: str) -> Tensor:
    """Return the tokens with zeros in place of padding."""
    if mask is None:
        return tokens
    if mask.dtype != torch.bool or mask.shape != tokens.shape[:2]:
        raise ValueError(
            f"inputs[{name!r}]: got {mask.dtype} of shape {list(mask.shape)}, "
            f"expected bool of shape {list(tokens.shape[:2])}"
        )
    return tokens.masked_fill(mask.unsqueeze(-1), 0)


def _pooled(tokens: Tensor, mask: Tensor | None, pool: str) -> Tensor:
    """Return what a probe reads of tokens that are zero where there is padding, ``[B, d]``."""
    if pool == "first":
        if mask is None:
            return tokens[:, 0]
        first = (~mask).to(torch.uint8).argmax(dim=1)
        return tokens.take_along_dim(first[:, None, None], dim=1).squeeze(1)
    if mask is None:
        return tokens.mean(dim=1)
    return tokens.sum(dim=1) / (~mask).sum(dim=1, keepdim=True).clamp(min=1)


class Predictions(NamedTuple):
    """A model's answers on N samples, on the CPU.

    ``logits`` [N, C]; ``labels`` [N]; ``share`` [N, M], attention mass of each modality;
    ``cosines`` and ``key_norms`` [N, M], of the average keys with the query and alone (0 where a
    modality is missing); ``query`` [d], the mean query; ``probe_accuracy``, each probe's share of
    right answers. Numbers are float32, or wider where the model is.
    """

    logits: Tensor
    labels: Tensor
    share: Tensor
    cosines: Tensor
    key_norms: Tensor
    query: Tensor
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
    columns: list[tuple[Tensor, ...]] = []
    query = torch.zeros(())
    right = dict.fromkeys(model.modalities, 0)
    for inputs, labels in batches(dataset, batch_size, classes=model.num_classes, **options):
        output = model({name: _as_parameter(x, like) for name, x in inputs.items()})
        # In half precision, sums would be rounded and could overflow.
        fusion = output.fusion
        query = query + widened(fusion.query).sum(0).cpu()
        for name, logits in output.probes.items():
            right[name] += int((logits.argmax(dim=1).cpu() == labels).sum())
        keys = widened(fusion.mean_keys)
        cosines = modality_cosines(widened(fusion.query), keys)
        row = (widened(fusion.logits), widened(fusion.share), cosines, keys.norm(dim=-1))
        columns.append((*(t.cpu() for t in row), labels))
    model.train(training)
    logits, share, cosines, norms, labels = (torch.cat(c) for c in zip(*columns, strict=True))
    rates = {name: count / len(labels) for name, count in right.items()}
    return Predictions(logits, labels, share, cosines, norms, query / len(labels), rates)


def widened(values: Tensor) -> Tensor:
    """Return ``values`` in float32, or as they are where that is as wide."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _as_parameter(values: Tensor, parameter: Tensor) -> Tensor:
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
