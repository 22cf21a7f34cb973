"""RollingQ's state in a checkpoint that several processes share."""

import warnings
from typing import Any

from rollingq_core._ranks import gathered, rank, world_size
from rollingq_core.rolling import RollingQ


def shared_state(rolling: RollingQ) -> dict[str, Any]:
    """Return the state of every process's RollingQ; all processes must call it.

    The sums of an epoch that is not yet closed differ between processes, the rest is the same.
    """
    return {"processes": gathered(rolling.state_dict())}


def restore_own(rolling: RollingQ, state: dict[str, Any]) -> None:
    """Go on from :func:`shared_state`, each process from its own.

    With another number of processes the sums of an unfinished epoch fit nobody. They are dropped,
    with a warning, and the epoch's expectations come from what is observed from here on.
    """
    processes = state["processes"]
    own = processes[rank()] if rank() < len(processes) else processes[0]
    if len(processes) != world_size() and any(process["sums"] for process in processes):
        warnings.warn(
            f"checkpoint: got RollingQ's sums of {len(processes)} processes, expected those of "
            f"{world_size()}; the unfinished epoch's observations so far are left out",
            stacklevel=2,
        )
        own = own | {"sums": {}}
    rolling.load_state_dict(own)
