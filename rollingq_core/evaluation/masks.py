"""What a trained fusion answers from some of its modalities alone (Table 8)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Subset

from rollingq_core.data.dataset import PairedDataset
from rollingq_core.evaluation.answers import require_answers
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import predict


@contextmanager
def hidden(model: MultimodalModel, modalities: Sequence[str]) -> Iterator[None]:
    """Hide some modalities from a model's fusion while the block runs, and from nothing else.

    All their tokens are padding to it: in each of its attention layers their logits are minus
    infinity before the softmax. A class token that is a key stays one. Encoders and probes see
    everything.

    Parameters
    ----------
    model
        The model.
    modalities
        Names of those that the fusion must not see; not all.

    Raises
    ------
    ValueError
        No such modality, or none would be left.
    """
    names = model.modalities
    wrong = [name for name in modalities if name not in names]
    if isinstance(modalities, str) or wrong or set(modalities) >= set(names):
        raise ValueError(
            f"modalities: got {modalities!r}, expected some of {list(names)}, but not all"
        )

    def mask(module: Any, args: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        (tokens,) = args
        masks = options.get("key_padding_masks") or [None] * len(names)
        own = [
            torch.ones_like(z[..., 0], dtype=torch.bool) if name in modalities else given
            for name, z, given in zip(names, tokens, masks, strict=True)
        ]
        return args, options | {"key_padding_masks": own}

    handle = model.fusion.register_forward_pre_hook(mask, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class MaskedAccuracy(NamedTuple):
    """Accuracy of a trained fusion that sees only some modalities, in [0, 1].

    ``accuracy`` of all together; ``alone`` and ``without``: by modality, of it alone, and of the
    others without it (with two modalities, ``without`` one is the other ``alone``); ``probes``: of
    the encoders' own probes. Samples that lack all that is seen don't count: None where none is
    left.
    """

    accuracy: float
    alone: dict[str, float | None]
    without: dict[str, float | None]
    probes: dict[str, float]


def masked_accuracy(model: MultimodalModel, dataset: PairedDataset) -> MaskedAccuracy:
    """Mask modalities out of a trained fusion, without training it again.

    Parameters
    ----------
    model, dataset
        A trained model of two or more modalities, and samples to test it on.

    Raises
    ------
    ValueError
        One modality, no sample, or answers that are not finite.
    """
    names = model.modalities
    if len(names) < 2:
        raise ValueError(f"model: got modalities {list(names)}, expected two or more")
    if not len(dataset):
        raise ValueError("dataset: got no sample, expected one or more")
    whole = predict(model, dataset)
    require_answers(whole.logits, whole.labels)
    alone = {name: _accuracy(model, dataset, [name]) for name in names}
    without = {
        name: _accuracy(model, dataset, [other for other in names if other != name])
        for name in names
    }
    return MaskedAccuracy(whole.accuracy, alone, without, whole.probe_accuracy)


def _accuracy(model: MultimodalModel, dataset: PairedDataset, seen: Sequence[str]) -> float | None:
    samples = _with_some(dataset, seen)
    if not len(samples):
        return None
    with hidden(model, [name for name in model.modalities if name not in seen]):
        return predict(model, samples).accuracy


def _with_some(dataset: PairedDataset, seen: Sequence[str]) -> Any:
    """Return the samples that have at least one of the modalities, as far as masks tell."""
    padding: dict[str, Tensor] = getattr(dataset, "padding", {})
    if any(name not in padding for name in seen):
        return dataset
    lacks = torch.stack([padding[name].all(dim=1) for name in seen]).all(dim=0)
    return _Chosen(dataset, (~lacks).nonzero().squeeze(1).tolist()) if lacks.any() else dataset


class _Chosen(Subset):
    def __getitems__(self, indices: Sequence[int]) -> Any:  # type: ignore[override]
        """Return the samples at ``indices`` as one batch, as the dataset itself does."""
        return self.dataset.__getitems__([self.indices[i] for i in indices])  # type: ignore[attr-defined]
