"""A run in a folder of its own: what it is, its checkpoint and its history."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rollingq_core._extras import needs
from rollingq_core._files import written_whole
from rollingq_core._ranks import rank
from rollingq_core.records import read_record

with needs("train", "data"):
    from rollingq_core.data.dataset import DataSplits
    from rollingq_core.data.store import sha256_file
    from rollingq_core.methods import Schedule
    from rollingq_core.runs.description import PROFILES, RunDescription, measure
    from rollingq_core.runs.run import Run, events_of, lengths_for, one_thread
    from rollingq_core.training.checkpoint import load_checkpoint_of, run_identity
    from rollingq_core.training.loop import TrainingResult, fit
    from rollingq_core.training.machine import Machine

CHECKPOINT, HISTORY, MODEL = "checkpoint.pt", "history.json", "model.json"
# The folder in a run's own of the one whose lengths it repeats, where that had to be trained first.
LEADER = "leader"
# Under which name a description has the SHA-256 of the file that its encoders started from.
WEIGHTS = "weights_sha256"
History = list[dict[str, Any]]


def train_in(
    folder: str | Path,
    wanted: RunDescription,
    *,
    data: DataSplits | None = None,
    schedule: Schedule = None,
    watch: Callable[[History], None] | None = None,
    machine: Machine | None = None,
    progress: bool = False,
) -> Run:
    """Train a model in ``folder``; a run that was cut off goes on there, bit for bit.

    Parameters
    ----------
    folder
        Where ``checkpoint.pt``, ``history.json`` and ``model.json`` are written, each in one step.
    wanted
        The run.
    data
        Its dataset, where that is loaded already.
    schedule
        As in :func:`rollingq_core.runs.train`.
    watch
        Called with the history of all epochs so far, at once and after each epoch.
    machine
        What to train on; by default the accelerator of the run's profile.
    progress
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        The folder holds another run, or the data has changed since.
    """
    folder = Path(folder)
    held = None
    if (folder / MODEL).exists():
        held = read_description(folder)
        require_same(folder, held, wanted)
    data = wanted.load_data() if data is None else data
    measured = measure(data, wanted.data)
    checkpoint = folder / CHECKPOINT
    # A run that goes on has its weights in the checkpoint.
    fresh = not checkpoint.exists()
    if wanted.weights is not None:
        begun = None if fresh or held is None else held.measured.get(WEIGHTS)
        measured[WEIGHTS] = begun or sha256_file(wanted.weights)
    wanted = replace(wanted, measured=measured)
    if schedule is None:
        schedule = lengths_for(
            wanted.method,
            lambda leader: train_in(
                folder / LEADER, replace(wanted, method=leader), data=data, machine=machine
            ),
        )
    model, config, observers = wanted.prepare(data, fresh=fresh, schedule=schedule)
    history: History = []
    if not fresh:
        identity = run_identity(model, data, config, observers)
        history = load_checkpoint_of(checkpoint, identity)["history"]
    write_json(folder / MODEL, wanted.as_dict())

    def tell(*records: dict[str, Any]) -> None:
        history.extend(records)
        if rank() > 0:
            return
        if history:
            write_json(folder / HISTORY, history)
        if watch is not None:
            watch(history)

    tell()  # the file of a run that goes on may lack its last epoch
    accelerator = PROFILES[wanted.profile].accelerator
    # On a CPU, the result is not to depend on the number of cores.
    with one_thread() if accelerator == "cpu" else nullcontext():
        result = fit(
            model,
            data,
            config,
            observers=observers,
            machine=machine or Machine(accelerator=accelerator),
            checkpoint=checkpoint,
            on_epoch=tell,
            progress=progress,
        )
    return Run(model, data, result, events_of(observers))


def load_trained(
    path: str | Path, description: RunDescription, data: DataSplits, device: torch.device
) -> Run:
    """Return the selected weights of a checkpoint in the model of its description.

    Raises
    ------
    OSError
        There is no such file.
    ValueError
        It is damaged, of another run, or has no epoch to select yet.
    """
    model, config, observers = description.prepare(data)
    trained_on = replace(data, data_hash=description.measured["data_hash"])
    identity = run_identity(model, trained_on, config, observers)
    for options in identity.values():
        if isinstance(options, dict):
            # A control that was paired with a run is not paired anew to be tested.
            options.pop("schedule", None)
    state = load_checkpoint_of(path, identity)
    if not state.get("best"):
        raise ValueError(f"checkpoint: {path} has no epoch of fusion yet, expected one or more")
    try:
        for observer in observers:
            observer.load_state_dict(state["parts"][observer.name])
        # After the observers, which are as the last epoch left them.
        model.load_state_dict(state["best"]["model"])
        result = TrainingResult(state["history"], state["best"]["epoch"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"checkpoint: {path} is of another model: {error}") from error
    return Run(model.to(device), data, result, events_of(observers))


def evaluated_in(folder: str | Path, data: str, test: str) -> list[dict[str, Any]]:
    """Return the records that ``evaluate`` wrote of one test for runs in folders of ``folder``.

    Parameters
    ----------
    folder
        Where the runs' folders lie.
    data
        The dataset that the runs were trained and tested on.
    test
        The test's name, for example ``"noise"``.
    """
    records = [
        read_record(test, path.parent) for path in sorted(Path(folder).glob(f"*/{test}.json"))
    ]
    return [record for record in records if record["config"]["data"] == data]


def read_description(folder: Path) -> RunDescription:
    """Read a run's description.

    Raises
    ------
    OSError
        There is none.
    ValueError
        It is damaged.
    """
    path = folder / MODEL
    try:
        return RunDescription.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def require_same(folder: Path, held: RunDescription, wanted: RunDescription) -> None:
    """Raise a ``ValueError`` that names the differences where a folder holds another run."""
    own, asked = (flat(replace(content, measured={}).as_dict()) for content in (held, wanted))
    names = [name for name in own if own[name] != asked[name]]
    if names:
        of, instead = (", ".join(f"{n} {content[n]!r}" for n in names) for content in (own, asked))
        raise ValueError(f"folder: {folder} holds a run of {of}; expected {instead}, or no run")


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` in one step, its numbers with all their digits."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    with written_whole(path) as file:
        file.write(text.encode())


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one, with dots in its names."""
    flattened: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flattened |= flat(value, f"{prefix}{name}.")
        else:
            flattened[prefix + name] = value
    return flattened
