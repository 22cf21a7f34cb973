"""Several processes that train one model: what each has is summed, so that all go the same way."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, distributed
from torch.utils.data import BatchSampler, Sampler


def world_size() -> int:
    """Return the number of processes, 1 where torch.distributed is not in use."""
    in_use = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if in_use else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


def gathered(value: Any) -> list[Any]:
    """Return what each process passes, in the order of their numbers; all must call it."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def summed(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return each tensor summed over the processes; all must call it, some may have none.

    The order of addition is that of the processes, so that all of them get the same bits.
    """
    if world_size() == 1:
        return sums
    total: dict[str, Tensor] = {}
    # Through the CPU, as a tensor that travels comes back on the device that it left from.
    for addends in gathered({name: value.detach().cpu() for name, value in sums.items()}):
        for name, value in addends.items():
            total[name] = total[name] + value if name in total else value
    return {name: v.to(sums[name].device) if name in sums else v for name, v in total.items()}


def own_part(size: int) -> range:
    """Return which of the ``size`` samples of a batch are this process's; it may be none."""
    number, count = rank(), world_size()
    return range(size * number // count, size * (number + 1) // count)


class OwnPart(Sampler[list[int]]):
    """Of each batch that all processes draw alike, the part of this one.

    A process that would get none gets the batch's first sample, to keep step with the others.
    """

    def __init__(self, whole: BatchSampler) -> None:
        self.whole = whole

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.whole:
            yield [batch[index] for index in own_part(len(batch))] or batch[:1]
