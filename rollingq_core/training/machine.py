"""The machine that trains: devices, precision, and how a batch is run through them."""

import math
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, get_args

import torch

from rollingq_core._checks import require_choice, require_integer, require_number
from rollingq_core._extras import needs
from rollingq_core.training.processes import lost_processes_named

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
PRECISIONS = get_args(Precision)


@dataclass(frozen=True)
class Machine:
    """What a training runs on, and how; none of it is the method's.

    Parameters
    ----------
    accelerator
        As Lightning Fabric has it: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
    precision
        One of :data:`PRECISIONS`.
    devices, nodes
        Devices of each node, ``"auto"`` for all there are, and nodes; on a CPU, at most two
        processes a core. Each device has a process that runs the calling script up to here;
        together they train as one process would, each on its part of every batch. Only the first
        writes the checkpoint, which all must see.
    timeout
        Seconds after which a process that waits for another gives up.
    compile
        Whether to run the model through ``torch.compile``.
    accumulate
        Number of pieces that each batch is cut into, to need less memory; their gradients add up
        to the batch's. An observer's ``extra_loss`` sees each piece by itself (PMR judges it so).
    clip
        Largest norm of all gradients together; None leaves them.
    workers
        Processes that read ahead, for each process that trains.

    Raises
    ------
    ValueError
        A number out of range, or no such precision.
    """

    accelerator: str = "cpu"
    precision: Precision = "32-true"
    devices: int | str = 1
    nodes: int = 1
    timeout: float = 1800.0
    compile: bool = False
    accumulate: int = 1
    clip: float | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        require_choice("precision", self.precision, PRECISIONS)
        require_integer("nodes", self.nodes, at_least=1)
        require_integer("accumulate", self.accumulate, at_least=1)
        require_integer("workers", self.workers, at_least=0)
        require_number("timeout", self.timeout, above=0)
        if self.clip is not None:
            require_number("clip", self.clip, above=0)
        if self.devices != "auto":
            # Of an accelerator, Fabric knows how many there are.
            none = self.accelerator == "auto" and not torch.accelerator.is_available()
            most = 2 * (os.cpu_count() or 1) if none or self.accelerator == "cpu" else math.inf
            require_integer("devices", self.devices, at_least=1, at_most=most)  # type: ignore[arg-type]

    def start(self, *, unused_parameters: bool = False) -> "Fabric":
        """Return Lightning Fabric, with a process for each device where there are several.

        Parameters
        ----------
        unused_parameters
            Whether some parameters may take no part in a step.

        Raises
        ------
        ValueError
            A device that this machine hasn't, or one device for several processes that torchrun
            has started.
        ConnectionError
            Another process has stopped.
        """
        # Here, as it takes longer to load than torch itself.
        with needs("train"):
            from lightning_fabric import Fabric
            from lightning_fabric.utilities.exceptions import MisconfigurationException

        strategy = self._strategy(unused_parameters)
        try:
            fabric = Fabric(
                accelerator=self.accelerator,
                devices=self.devices,
                num_nodes=self.nodes,
                precision=self.precision,
                strategy=strategy,
            )
        except (
            ValueError,
            TypeError,
            RuntimeError,
            ImportError,
            MisconfigurationException,
        ) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise ValueError(
                f"accelerator: got {self.accelerator!r} with devices {self.devices!r} and "
                f"precision {self.precision!r}, expected what this machine has ({reason})"
            ) from error
        if strategy != "auto":
            with lost_processes_named(fabric):
                fabric.launch()
        return fabric

    def _strategy(self, unused_parameters: bool) -> "DDPStrategy | str":
        from lightning_fabric.plugins.environments import TorchElasticEnvironment
        from lightning_fabric.strategies import DDPStrategy

        if self.devices != 1 or self.nodes > 1:
            waits = timedelta(seconds=self.timeout)
            return DDPStrategy(timeout=waits, find_unused_parameters=unused_parameters)
        if TorchElasticEnvironment.detect():
            count = TorchElasticEnvironment().world_size()
            if count > 1:  # each would train for itself, and write over the others
                raise ValueError(
                    f"devices: got 1, but torchrun has started {count} processes, "
                    "expected as many devices"
                )
        return "auto"
