"""Checkpoints that are never half written, and that can't run code when read."""

import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rollingq_core._files import delete_unfinished, written_whole
from rollingq_core._ranks import gathered, rank, world_size
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.settings import TrainingConfig
from rollingq_core.training.observer import Observer, attention_mode, watched

if TYPE_CHECKING:  # what trains needs more than torch, what saves does not
    from rollingq_core.data.dataset import DataSplits
    from rollingq_core.training.machine import Machine

FORMAT = "rollingq-checkpoint-4"


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path`` in one step: after a crash the old file or the new one is there.

    Parameters
    ----------
    path
        File to write; its folder is made.
    state
        Tensors, numbers, strings, and dicts, lists and tuples of these.

    Raises
    ------
    OSError
        The folder can't be written or the disk is full; the old file, if any, is untouched.
    """
    with written_whole(path) as file:
        try:
            torch.save({"format": FORMAT, **state}, file)
        except RuntimeError as error:
            # Closing its archive on a full disk, torch hides what the disk has said before.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote; only data is read, no code is run.

    Parameters
    ----------
    path
        The file.
    device
        Where its tensors go.

    Raises
    ------
    OSError
        There is no such file, or it can't be read.
    ValueError
        It is damaged, holds more than data, or is no checkpoint of this package.
    """
    try:
        # torch itself does not look at the checksums.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location=device, weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file can make the reader raise nearly anything
        raise ValueError(
            f"path: got {path}, which is damaged or holds more than data, expected a checkpoint"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"path: got {path}, expected a checkpoint of format {FORMAT!r}")
    return state


def run_identity(
    model: MultimodalModel,
    data: "DataSplits",
    config: TrainingConfig,
    observers: Sequence[Observer],
    machine: "Machine | None" = None,
) -> dict[str, Any]:
    """Return what two runs must share for one to go on from the other's checkpoint.

    Without a machine it is what a model to be tested must share with its checkpoint.
    """
    identity = {
        "training": asdict(config),
        "data_hash": data.data_hash,
        "modalities": list(model.modalities),
        "fusion": type(model.fusion).__name__,
        "attention": attention_mode(model),
    }
    identity["observers"] = [observer.name for observer in watched(model, tuple(observers))]
    identity |= {o.name: o.identity for o in observers if o.identity}
    if machine is not None:
        # The rest of a machine changes how fast a run is, or nothing that is saved.
        options = ("precision", "accumulate", "clip")
        identity["options"] = {name: getattr(machine, name) for name in options}
    return identity


class RunState:
    """History and selected weights of a run, and how they are saved and resumed.

    Parameters
    ----------
    identity
        What tells this run from others; a checkpoint of another run is refused.
    holders
        Whatever holds state between epochs, by name: ``"model"``, and the optimiser and so on.
    selection
        The epoch whose weights are kept: the ``"best"`` on the validation split, or the ``"last"``.
    """

    def __init__(self, identity: dict[str, Any], holders: dict[str, Any], selection: str) -> None:
        self.identity, self.holders, self.selection = identity, holders, selection
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}

    def close_epoch(self, record: dict[str, Any]) -> None:
        """Add an epoch to the history, and keep its weights if it is the one to select."""
        self.history.append(record)
        if record["stage"] != "fusion":
            return
        score = (record["validation_accuracy"], -record["validation_loss"])
        if not self.best or self.selection == "last" or score > self.best["score"]:
            state = {name: t.clone() for name, t in self.holders["model"].state_dict().items()}
            self.best = {"epoch": record["epoch"], "score": score, "model": state}

    def save(self, path: str | Path) -> None:
        """Write everything needed to go on after the last closed epoch.

        Where several processes train, all call it and the first one writes.
        """
        state = {
            "identity": self.identity,
            "parts": {name: holder.state_dict() for name, holder in self.holders.items()},
            "history": self.history,
            "best": self.best,
            "random": gathered(_random_state()),
        }
        if rank() == 0:
            delete_unfinished(path)
            save_checkpoint(path, state)

    def resume(self, path: str | Path, device: torch.device) -> None:
        """Go on from :meth:`save`; a checkpoint of another run raises a ``ValueError``."""
        state = load_checkpoint(path, device)
        _require_identity(path, state.get("identity"), self.identity)
        try:
            processes, now = len(state["random"]), world_size()
            if processes != now:
                raise ValueError(f"trained by {processes} processes, expected {now}")
            for name, holder in self.holders.items():
                holder.load_state_dict(state["parts"][name])
            self.history, self.best = state["history"], state["best"]
            random = state["random"][rank()]
            torch.set_rng_state(random["cpu"].cpu())
            if random["cuda"] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(random["cuda"].cpu())
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"checkpoint: {path} is of another model or run: {error}") from error


def load_checkpoint_of(path: str | Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Read a run's checkpoint; all of ``identity`` has to be the run's.

    Beside it the run may have the options of its machine, and more options of the same observers,
    but no other observer.

    Raises
    ------
    OSError
        There is no such file, or it can't be read.
    ValueError
        It is damaged, holds more than data, or is of another run; says what differs.
    """
    state = load_checkpoint(path)
    saved, wanted = _flat(state.get("identity")), _flat(identity)
    known = {*identity, "options"}
    others = [name for name in saved if name.partition(".")[0] not in known]
    _require_identity(path, {name: saved.get(name) for name in [*wanted, *others]}, wanted)
    if not isinstance(state.get("history"), list):
        raise ValueError(f"checkpoint: {path} has no history, expected one")
    return state


def _require_identity(path: str | Path, saved: Any, expected: dict[str, Any]) -> None:
    saved, wanted = _flat(saved), _flat(expected)
    names = [name for name in saved | wanted if saved.get(name) != wanted.get(name)]
    if names:
        of, instead = (
            ", ".join(f"{name} {identity.get(name)!r}" for name in names)
            for identity in (saved, wanted)
        )
        raise ValueError(f"checkpoint: {path} is of {of}; expected {instead}")


def _flat(identity: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for group, value in identity.items() if isinstance(identity, dict) else ():
        if isinstance(value, dict):
            flat |= {f"{group}.{name}": entry for name, entry in value.items()}
        else:
            flat[group] = value
    return flat


def _random_state() -> dict[str, Any]:
    """Return the random state of this process, on the CPU and on the GPU that it uses."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}
