"""The paper's comparison at the size of a profile: full inputs, through run folders."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rollingq_core._checks import require_choice
from rollingq_core._extras import needs

with needs("train", "data"):
    from rollingq_core.data.sources import SOURCES
    from rollingq_core.evaluation.noise import LEVELS
    from rollingq_core.methods import METHODS
    from rollingq_core.reproduce.reports import summarise
    from rollingq_core.reproduce.resumable import compute_record, require_seeds
    from rollingq_core.reproduce.seeds import REPORTING_SEEDS
    from rollingq_core.runs.description import PROFILES, RunDescription
    from rollingq_core.runs.folder import train_in
    from rollingq_core.runs.run import Run
    from rollingq_core.training.machine import Machine, Precision

SEEDS = REPORTING_SEEDS[:5]
# The random turn follows the RollingQ run of its seed.
COMPARED = ("mt", "mt+rollingq", "mt+random_matched", "uniform")


def tested(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return one run's numbers: those of ``summarise``, with noise in each modality by turns."""
    by_modality = {name: summarise(method, seed, run, name) for name in run.model.modalities}
    noisy = ("accuracy", "shares", "share_normal", "share_noisy", "pearson")
    row = dict(next(iter(by_modality.values())))
    for name in noisy:
        row[name] = {modality: numbers[name] for modality, numbers in by_modality.items()}
    return row


def run_seed(
    data_name: str, profile: str, seed: int, folder: Path, precision: Precision
) -> list[dict[str, Any]]:
    """Train each method at one seed in a folder of its own, and return a row each."""
    rows: list[dict[str, Any]] = []
    runs: dict[str, Run] = {}
    machine = Machine(accelerator=PROFILES[profile].accelerator, precision=precision)
    data = RunDescription.of_profile(data_name, COMPARED[0], profile, seed).load_data()
    samples = {name: len(getattr(data, name)) for name in ("train", "validation", "test")}
    for method in COMPARED:
        wanted = RunDescription.of_profile(data_name, method, profile, seed)
        leader = METHODS[method].follows
        run = runs[method] = train_in(
            folder / f"{method}-{seed}",
            wanted,
            data=data,
            schedule=runs[leader].schedule_for(method) if leader else None,
            machine=machine,
        )
        rows.append(tested(method, seed, run) | {"samples": samples})
    return rows


def reproduce(
    data_name: str = "avmnist_full",
    profile: str = "gpu",
    seeds: tuple[int, ...] = SEEDS,
    *,
    out: str | Path,
    jobs: int = 1,
    precision: Precision | None = None,
) -> dict[str, Any]:
    """Train each method at each seed, and write a record of their tests.

    Parameters
    ----------
    data_name, profile
        A dataset, and one of :data:`rollingq_core.runs.description.PROFILES`.
    seeds
        One comparison a seed.
    out
        The record to write. The runs lie beside it, in a folder of its name; a call that was cut
        off goes on where it stopped.
    jobs
        Processes to use.
    precision
        That of :class:`rollingq_core.training.Machine`; single by default.

    Raises
    ------
    ValueError
        No such dataset or profile, seeds that are no integers of at least 0 or come twice, or
        ``jobs`` below 1.
    """
    require_choice("data_name", data_name, tuple(SOURCES))
    require_choice("profile", profile, tuple(PROFILES))
    seeds = require_seeds(seeds)
    out, options = Path(out), {"precision": precision} if precision else {}
    head = {
        "recipe": "scale",
        "command": f"python -m rollingq_core reproduce scale --data {data_name} "
        f"--profile {profile} --seeds {len(seeds)}"
        + "".join(f" --{name} {value}" for name, value in options.items()),
        "config": {"data": data_name, "profile": profile}
        | asdict(PROFILES[profile].setting)
        | options,
        "seeds": seeds,
        "levels": LEVELS,
    }
    chunks = {
        str(seed): (data_name, profile, seed, out.with_suffix(""), precision or "32-true")
        for seed in seeds
    }
    on_gpu = PROFILES[profile].accelerator != "cpu" and torch.cuda.is_available()
    gpu = torch.cuda.get_device_name() if on_gpu else None
    return compute_record(out, head, run_seed, chunks, jobs=jobs, gpu=gpu)
