"""RollingQ in a Lightning ``Trainer``: turn after the last batch, before validation."""

from typing import Any

from rollingq_core._extras import needs
from rollingq_core.callbacks.state import restore_own, shared_state
from rollingq_core.rolling import RollingQ

with needs("callbacks"):
    try:
        from lightning.pytorch import Callback, LightningModule, Trainer
    except ImportError:  # the same library under its older name
        from pytorch_lightning import (  # type: ignore[assignment]
            Callback,
            LightningModule,
            Trainer,
        )


class RollingQCallback(Callback):
    """Closes RollingQ's epoch before Lightning validates, and keeps its state in checkpoints.

    Lightning calls ``on_train_epoch_end`` after validation and then saves. A turn made there would
    put weights into the checkpoint that nobody validated. So the turn is made right after the
    epoch's last training batch: what is validated is what is saved.

    The model observes its training batches itself, in ``forward`` or ``training_step``. AIR and the
    number of turns so far are logged as ``rollingq/air`` and ``rollingq/count``. An epoch that
    ``max_steps`` cuts short is not closed.

    Parameters
    ----------
    rolling
        That of the model. Where this has several fusion layers, each has a callback of its own.
    name
        What tells apart the states of several callbacks in a checkpoint.

    Examples
    --------
    >>> from rollingq_core import AttentionFusion, RollingQ
    >>> from lightning.pytorch import Trainer
    >>> fusion = AttentionFusion(dim=8, num_classes=2)
    >>> rolling = RollingQ(fusion, rho=3, beta=0.05, max_rotations=3)
    >>> trainer = Trainer(max_epochs=1, logger=False, callbacks=[RollingQCallback(rolling)])
    """

    def __init__(self, rolling: RollingQ, name: str = "rollingq") -> None:
        self.rolling, self.name = rolling, name

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint."""
        return f"{type(self).__qualname__}[{self.name}]"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Close the epoch after its last batch."""
        if not trainer.is_last_batch:
            return
        self.rolling.end_epoch()
        expected = self.rolling.last
        if expected is not None:
            count = float(self.rolling.module.count)
            values = {f"{self.name}/air": expected.air, f"{self.name}/count": count}
            pl_module.log_dict(values, on_step=False, on_epoch=True)

    def state_dict(self) -> dict[str, Any]:
        """Return events, open sums and random state; R and the schedule are the model's."""
        return shared_state(self.rolling)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        restore_own(self.rolling, state_dict)
