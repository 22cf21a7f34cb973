"""What a model costs: weights and operations, as they are and as the paper counts (Table 4)."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rollingq_core._padding import separated
from rollingq_core.data.dataset import PairedDataset
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.fusion.jmt import JointFusion
from rollingq_core.fusion.mmml import CrossStreamFusion
from rollingq_core.fusion.stack import StackFusion
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.rotation import QueryRotation

# What the paper's counter knows. It never looks into PyTorch's own multi-head attention.
COUNTED = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.LayerNorm)
NOT_ENTERED = nn.MultiheadAttention
# A layer norm's operations on each of its numbers.
NORM_OPERATIONS = 4


def parameters(model: nn.Module) -> int:
    """Return the number of a model's trainable numbers.

    Examples
    --------
    >>> parameters(nn.MultiheadAttention(2, 1))
    24
    """
    return sum(weight.numel() for weight in model.parameters())


def parameters_as_in_table4(model: nn.Module, *, turned: bool = False) -> int:
    """Return the number of parameters that the paper's Table 4 has for a model.

    It was taken with a counter of single layers: class tokens, positions and bottlenecks, which
    belong to none, are left out, and so is all of PyTorch's own multi-head attention.

    Parameters
    ----------
    model
        The model.
    turned
        Whether a rotation counts, as the weights of a layer of d x d.

    Examples
    --------
    >>> parameters_as_in_table4(nn.Linear(2, 3))
    9
    >>> parameters_as_in_table4(nn.MultiheadAttention(2, 1))
    0
    """
    if isinstance(model, NOT_ENTERED):
        return 0
    if isinstance(model, COUNTED):
        return parameters(model)
    rotation = model.matrix.numel() if turned and isinstance(model, QueryRotation) else 0
    return rotation + sum(parameters_as_in_table4(m, turned=turned) for m in model.children())


def operations(model: MultimodalModel, shapes: Mapping[str, Sequence[int]], batch: int = 1) -> int:
    """Return the floating-point operations of a model's answers, two for a multiplication.

    PyTorch's own counter counts all products of matrices and convolutions, attention's too. The
    model runs on shapes without numbers, so that nothing is computed.

    Parameters
    ----------
    model
        The model; it is not changed.
    shapes
        Shape of one sample, by modality.
    batch
        Number of samples that are answered at once.
    """
    empty, inputs = _without_numbers(model, shapes, batch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        empty(inputs)
    return counter.get_total_flops()


def operations_as_in_table4(
    model: MultimodalModel, shapes: Mapping[str, Sequence[int]], *, turned: bool = False
) -> int:
    """Return the operations for one sample that the paper's Table 4 has for a model.

    Its counter multiplies what single layers do, as in :func:`parameters_as_in_table4`, by two: a
    linear map's multiplications for each row, a convolution's, and four for each number in a layer
    norm. Products of queries, keys and values are not counted. The textbook's layers are: every row
    of a fusion is, also where nothing reads it and this package leaves it out.

    Parameters
    ----------
    model, shapes
        As in :func:`operations`.
    turned
        Whether a rotation counts, as a map of each sample's query.
    """
    empty, inputs = _without_numbers(model, shapes, 1)
    done: dict[nn.Module, int] = {}
    lengths: list[int] = []
    handles = [
        layer.register_forward_hook(lambda layer, _, output: _add(done, layer, output))
        for layer in _counted(empty)
    ]
    handles.append(
        empty.fusion.register_forward_pre_hook(
            lambda _, args: lengths.extend(z.shape[1] for z in args[0])
        )
    )
    with torch.no_grad():
        empty(inputs)
    for handle in handles:
        handle.remove()
    for layer, rows in _textbook_rows(empty.fusion, lengths).items():
        done[layer] = rows * _row_operations(layer)
    rotations = (m for m in empty.modules() if turned and isinstance(m, QueryRotation))
    return 2 * (sum(done.values()) + sum(rotation.matrix.numel() for rotation in rotations))


def _without_numbers(
    model: MultimodalModel, shapes: Mapping[str, Sequence[int]], batch: int
) -> tuple[MultimodalModel, dict[str, Tensor]]:
    empty = deepcopy(model).to("meta").eval().requires_grad_(False)
    inputs = {name: torch.empty(batch, *shape, device="meta") for name, shape in shapes.items()}
    return empty, inputs


def _counted(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, COUNTED):
        yield module
    elif not isinstance(module, NOT_ENTERED):
        for child in module.children():
            yield from _counted(child)


def _add(done: dict[nn.Module, int], layer: nn.Module, output: Tensor) -> None:
    rows = output.numel() // output.shape[1 if isinstance(layer, nn.Conv2d | nn.Conv3d) else -1]
    done[layer] = done.get(layer, 0) + rows * _row_operations(layer)


def _row_operations(layer: Any) -> int:
    """Return what the paper's counter has for one row, or one place of a convolution."""
    if isinstance(layer, nn.LayerNorm):
        return NORM_OPERATIONS * prod(layer.normalized_shape)
    return layer.weight.numel()


def _textbook_rows(fusion: Any, lengths: Sequence[int]) -> dict[nn.Module, int]:
    """Return the rows of those layers that the textbook applies to more rows than the package."""
    every = sum(lengths) + 1  # with the class token
    rows: dict[nn.Module, int] = {}
    for layer in fusion.modules():
        if isinstance(layer, AttentionFusion):
            rows |= dict.fromkeys(_counted_but(layer, "head"), every)
    if isinstance(fusion, StackFusion):
        last = fusion.blocks[-1]
        rows |= dict.fromkeys(_counted(last), every)
    if isinstance(fusion, JointFusion):
        rows[fusion.output] = max(lengths)
    if isinstance(fusion, CrossStreamFusion) and fusion.own is not None:
        parts = zip(fusion.own, fusion.attended, fusion.mlps, fusion.fed, strict=True)
        for length, own in zip(lengths, parts, strict=True):
            for part in own:
                rows |= dict.fromkeys(_counted(part), length + (fusion.cls is not None))
    return rows


def _counted_but(module: nn.Module, name: str) -> Iterator[nn.Module]:
    for child_name, child in module.named_children():
        if child_name != name:
            yield from _counted(child)


class Cost(NamedTuple):
    """What a model costs: numbers of weights, and operations in units of 10^9 for each sample.

    ``parameters`` and ``gigaflops`` are all there are; the others are those of the paper's
    counter.
    """

    parameters: int
    parameters_as_in_table4: int
    gigaflops: float
    gigaflops_as_in_table4: float


def cost(model: MultimodalModel, dataset: PairedDataset) -> Cost:
    """Count a model's weights, and its operations on a dataset's samples.

    Raises
    ------
    ValueError
        No sample.
    """
    if not len(dataset):
        raise ValueError("dataset: got no sample, expected one or more")
    inputs, _ = separated(dataset.__getitems__([0])[0])
    shapes = {name: tuple(inputs[name].shape[1:]) for name in model.modalities}
    turned = any(int(m.count) for m in model.modules() if isinstance(m, QueryRotation))
    return Cost(
        parameters(model),
        parameters_as_in_table4(model, turned=turned),
        operations(model, shapes) / 1e9,
        operations_as_in_table4(model, shapes, turned=turned) / 1e9,
    )
