"""The whole model: one encoder a modality, the fusion layer, and a probe beside each encoder."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

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
        What a probe reads: ``"mean"`` of the tokens, or the ``"first"`` (a ViT's class token).
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
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.probes = nn.ModuleDict(
            {name: nn.Linear(fusion.dim, num_classes) for name in self.encoders}
        )
        self.pool = pool

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities in the fusion's order."""
        return tuple(self.encoders)

    def forward(
        self, inputs: Mapping[str, Tensor], *, fuse: bool = True, detach_probes: bool = True
    ) -> ModelOutput:
        """Run encoders, probes and, with ``fuse``, the fusion layer on one batch.

        Raises
        ------
        ValueError
            ``inputs`` lacks a modality.
        """
        missing = [name for name in self.encoders if name not in inputs]
        if missing:
            raise ValueError(f"inputs: got {list(inputs)}, expected also {missing}")
        tokens = {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}
        probes = {}
        for name, z in tokens.items():
            pooled = z.mean(dim=1) if self.pool == "mean" else z[:, 0]
            probes[name] = self.probes[name](pooled.detach() if detach_probes else pooled)
        return ModelOutput(self.fusion(list(tokens.values())) if fuse else None, probes)


class Predictions(NamedTuple):
    """A model's answers on N samples, on the CPU.

    ``logits`` [N, C]; ``labels`` [N]; ``share`` [N, M], attention mass of each modality;
    ``cosines`` and ``key_norms`` [N, M], of the average keys with the query and alone; ``query``
    [d], the mean query; ``probe_accuracy``, each probe's share of right answers.
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
    """Run a model over a dataset, in evaluation mode and on the model's device.

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
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    columns: list[tuple[Tensor, ...]] = []
    query = torch.zeros(())
    right = dict.fromkeys(model.modalities, 0)
    for inputs, labels in batches(dataset, batch_size, **options):
        output = model({name: x.to(device) for name, x in inputs.items()})
        fusion = output.fusion
        query = query + fusion.query.sum(0).cpu()
        for name, logits in output.probes.items():
            right[name] += int((logits.argmax(dim=1).cpu() == labels).sum())
        cosines = modality_cosines(fusion.query, fusion.mean_keys)
        row = (fusion.logits, fusion.share, cosines, fusion.mean_keys.norm(dim=-1))
        columns.append((*(t.float().cpu() for t in row), labels))
    model.train(training)
    logits, share, cosines, norms, labels = (torch.cat(c) for c in zip(*columns, strict=True))
    rates = {name: count / len(labels) for name, count in right.items()}
    return Predictions(logits, labels, share, cosines, norms, query / len(labels), rates)


def batches(
    dataset: Dataset, batch_size: int, order: torch.Generator | None = None, **options
) -> DataLoader:
    """Return a loader of whole batches, shuffled when ``order`` is given.

    ``options`` are those of torch's ``DataLoader``.

    The dataset hands out a batch at once (``__getitems__``), so nothing is left to collate.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=order is not None,
        generator=order,
        collate_fn=_as_is,
        **options,
    )


def _as_is(batch):
    return batch
