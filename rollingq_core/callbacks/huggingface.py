"""RollingQ in a Hugging Face ``Trainer``: turn before it evaluates and saves."""

import warnings
from pathlib import Path
from typing import Any

from rollingq_core._extras import needs
from rollingq_core.callbacks.state import restore_own, shared_state
from rollingq_core.rolling import RollingQ

with needs("callbacks"):
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

    from rollingq_core.training.checkpoint import load_checkpoint, save_checkpoint


class RollingQCallback(TrainerCallback):
    """Closes RollingQ's epoch before the Trainer evaluates, and saves its state in checkpoints.

    The epoch is closed with its last step, so that what is evaluated and saved at that step or at
    the epoch's end, by whichever strategy, has made the turn. An epoch that ``max_steps`` cuts
    short is not closed.

    The model observes its training batches itself, in ``forward``. R, the number of turns and the
    schedule are saved with the model's weights. What else belongs to RollingQ goes to a file beside
    them, ``rollingq.pt`` in each ``checkpoint-*`` folder, and is read again when training resumes
    from the newest one in ``output_dir``.

    Parameters
    ----------
    rolling
        The :class:`RollingQ` of the model that is trained. A model with several fusion layers has
        a callback for each.
    name
        Name of the file, without its ending.

    Examples
    --------
    >>> from rollingq_core import AttentionFusion, RollingQ
    >>> fusion = AttentionFusion(dim=8, num_classes=2)
    >>> rolling = RollingQ(fusion, rho=3, beta=0.05, max_rotations=3)
    >>> callbacks = [RollingQCallback(rolling)]  # for transformers.Trainer(callbacks=callbacks)
    """

    def __init__(self, rolling: RollingQ, name: str = "rollingq") -> None:
        self.rolling, self.name = rolling, name
        self.is_open = False

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Note that there is an epoch to close."""
        self.is_open = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Close the epoch after its last step, which evaluation by steps may follow."""
        if state.epoch == int(state.epoch):
            self._close()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Close an epoch whose last step could not be told beforehand."""
        if not control.should_training_stop:
            self._close()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the state beside the weights that were just saved."""
        shared = shared_state(self.rolling)
        if state.is_world_process_zero:
            save_checkpoint(self._file(args, state), shared)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Read the state again where training resumes."""
        if state.global_step == 0:
            return
        path = self._file(args, state)
        if path.exists():
            restore_own(self.rolling, load_checkpoint(path))
        else:
            warnings.warn(
                f"checkpoint: got no {path}, expected RollingQ's events and the observations of an "
                "unfinished epoch there; R and the schedule come with the model's weights",
                stacklevel=2,
            )

    def _close(self) -> None:
        if self.is_open:
            self.rolling.end_epoch()
        self.is_open = False

    def _file(self, args: TrainingArguments, state: TrainerState) -> Path:
        assert args.output_dir is not None  # by default `trainer_output`
        return Path(args.output_dir) / f"checkpoint-{state.global_step}" / f"{self.name}.pt"
