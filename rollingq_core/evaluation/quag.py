"""QUAG: attention averaged within blocks of modalities (Rawal et al. 2024; Table 9)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rollingq_core.data.dataset import PairedDataset
from rollingq_core.evaluation.answers import require_answers
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.stack import StackFusion
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import predict

# The group of a class token, which is of no modality.
OWN = -1
# (group of rows, group of keys) -> whether their block is averaged.
Blocks = list[tuple[int, int]]


def blocks_of(operation: str, modalities: Sequence[str]) -> Blocks:
    """Return the blocks of attention that an operation averages, as (rows, keys).

    ``"unimodal"``: each modality's rows over its own keys; ``"crossmodal"``: over the others'
    keys; ``"average NAME"``: all rows, also the class token's, over one modality's keys;
    ``"average all"``: over each modality's.

    Raises
    ------
    ValueError
        No such operation.

    Examples
    --------
    >>> blocks_of("average visual", ["audio", "visual"])
    [(-1, 1), (0, 1), (1, 1)]
    """
    places = range(len(modalities))
    everyone = [OWN, *places]
    known: dict[str, Blocks] = {
        "unimodal": [(m, m) for m in places],
        "crossmodal": [(m, n) for m in places for n in places if m != n],
        **{f"average {name}": [(row, m) for row in everyone] for m, name in enumerate(modalities)},
        "average all": [(row, m) for row in everyone for m in places],
    }
    if operation not in known:
        raise ValueError(f"operation: got {operation!r}, expected one of {[*known]}")
    return known[operation]


def averaged(
    weights: Tensor, rows: Tensor, keys: Tensor, blocks: Blocks, padded: Tensor | None = None
) -> Tensor:
    """Replace each row's weights over a block of keys by their mean; sums of rows stay.

    Parameters
    ----------
    weights
        Softmax rows, ``[..., N, L]``.
    rows, keys
        Group of each row ``[N]`` and of each key ``[L]``: a modality's place, or -1.
    blocks
        Which rows are averaged over which keys.
    padded
        Which keys are padding, broadcast to ``[..., N, L]``: they don't count, and stay 0.

    Examples
    --------
    >>> group = torch.tensor([0, 0, 1])
    >>> row = torch.tensor([[0.5, 0.1, 0.4]])
    >>> averaged(row, torch.tensor([0]), group, [(0, 0)])
    tensor([[0.3000, 0.3000, 0.4000]])
    """
    kept = torch.ones_like(weights) if padded is None else (~padded).to(weights).expand_as(weights)
    for row, key in blocks:
        counted = kept * (keys == key)
        mean = (weights * counted).sum(-1, keepdim=True) / counted.sum(-1, keepdim=True).clamp(1)
        chosen = (rows == row).unsqueeze(-1) & (keys == key)
        weights = torch.where(chosen, mean * counted, weights)
    return weights


@contextmanager
def averaging(model: MultimodalModel, operation: str) -> Iterator[None]:
    """Average blocks of attention in every layer and head of a fusion while the block runs.

    Parameters
    ----------
    model
        A model whose fusion has a class token that attends to the tokens of all modalities, in
        one layer or a stack of them.
    operation
        As in :func:`blocks_of`.

    Raises
    ------
    ValueError
        No such operation, or a fusion whose attention is between streams.
    """
    fusion = require_one_attention(model)
    blocks = blocks_of(operation, model.modalities)
    seen: dict[str, Any] = {}

    def note(module: Any, args: tuple, options: dict[str, Any]) -> None:
        (tokens,) = args
        seen["groups"] = [m for m, z in enumerate(tokens) for _ in range(z.shape[1])]
        masks = options.get("key_padding_masks") or [None] * len(tokens)
        seen["padded"] = torch.cat(
            [
                torch.zeros_like(z[..., 0], dtype=torch.bool) if mask is None else mask
                for z, mask in zip(tokens, masks, strict=True)
            ],
            dim=1,
        )

    def average(module: Any, args: tuple, weights: Tensor) -> Tensor:
        padded, single = seen["padded"], weights.dim() == 3  # the class token's row alone
        groups = torch.tensor(seen["groups"], device=weights.device)
        own = torch.tensor([OWN], device=weights.device)
        keys = groups
        # The class token is a row's last key where it is alone, and else the first.
        if weights.shape[-1] > len(groups):
            keys = torch.cat([groups, own] if single else [own, groups])
            padded = torch.nn.functional.pad(padded, (0, 1) if single else (1, 0))
        if single:
            row = weights.unsqueeze(2)  # [B, H, 1, L]
            return averaged(row, own, keys, blocks, padded[:, None, None])[:, :, 0]
        return averaged(weights, keys, keys, blocks, padded[:, None, None])

    handles = [fusion.register_forward_pre_hook(note, with_kwargs=True)]
    layers = (m for m in fusion.modules() if isinstance(m, AttentionFusion))
    handles += [layer.weights.register_forward_hook(average) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def require_one_attention(model: MultimodalModel) -> AttentionFusion | StackFusion:
    """Return a model's fusion when its attention is over the tokens of all modalities."""
    fusion = model.fusion
    if not isinstance(fusion, AttentionFusion | StackFusion):
        raise ValueError(
            f"model: got {type(fusion).__name__}, expected a fusion with attention over the tokens "
            "of all modalities in each layer (AttentionFusion, StackFusion)"
        )
    return fusion


class Averaged(NamedTuple):
    """Accuracy of a trained model with some of its attention averaged, in [0, 1].

    ``accuracy`` as it is; ``unimodal`` and ``crossmodal``; ``average``: by modality, and ``all``.
    """

    accuracy: float
    unimodal: float
    crossmodal: float
    average: dict[str, float]


def quag(model: MultimodalModel, dataset: PairedDataset) -> Averaged:
    """Average a trained model's attention in each of QUAG's ways, without training it again.

    Parameters
    ----------
    model, dataset
        A trained model, as in :func:`averaging`, and samples to test it on.

    Raises
    ------
    ValueError
        Another fusion, no sample, or answers that are not finite.
    """
    require_one_attention(model)
    if not len(dataset):
        raise ValueError("dataset: got no sample, expected one or more")
    whole = predict(model, dataset)
    require_answers(whole.logits, whole.labels)

    def accuracy(operation: str) -> float:
        with averaging(model, operation):
            return predict(model, dataset).accuracy

    each = {name: accuracy(f"average {name}") for name in [*model.modalities, "all"]}
    return Averaged(whole.accuracy, accuracy("unimodal"), accuracy("crossmodal"), each)
