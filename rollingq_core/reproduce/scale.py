"""The paper's comparison at the size of a profile: full inputs, through run folders."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rollingq_core._checks import require_choice
from rollingq_core._extras import needs

with needs("train"):
    from rollingq_core.data import DATASETS, LARGE_DATASETS
    from rollingq_core.profiles import METHODS, PROFILES, RunDescription
    from rollingq_core.reproduce.comparison import LEVELS, REPORTING_SEEDS, summarise
    from rollingq_core.reproduce.parts import compute_record, require_seeds
    from rollingq_core.run_folder import train_in
    from rollingq_core.settings import Run

SEEDS = REPORTING_SEEDS[:5]
# By the names of the command line; the random turn follows the RollingQ run of its seed.
COMPARED = ("mt", "mt+rollingq", "mt+random_matched", "uniform")


def tested(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return one run's numbers: those of ``summarise``, with noise in each modality by turns."""
    by_modality = {name: summarise(method, seed, run, name) for name in run.model.modalities}
    noisy = ("accuracy", "shares", "share_normal", "share_noisy", "pearson")
    row = dict(next(iter(by_modality.values())))
    for name in noisy:
        row[name] = {modality: found[name] for modality, found in by_modality.items()}
    return row


def run_seed(
    data_name: str, profile: str, seed: int, folder: Path, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """Train each method at one seed in a folder of its own, and return a row each."""
    rows, schedule = [], None
    data = RunDescription.of_profile(data_name, COMPARED[0], profile, seed).load_data()
    samples = {name: len(getattr(data, name)) for name in ("train", "validation", "test")}
    for method in COMPARED:
        wanted = RunDescription.of_profile(data_name, method, profile, seed)
        paired = schedule if method == "mt+random_matched" else None
        run = train_in(folder / f"{method}-{seed}", wanted, data=data, schedule=paired, **options)
        if method == "mt+rollingq":
            schedule = run.events
        rows.append(tested(METHODS[method], seed, run) | {"samples": samples})
    return rows


def reproduce(
    data_name: str = "avmnist_full",
    profile: str = "gpu",
    seeds: tuple[int, ...] = SEEDS,
    *,
    out: str | Path,
    jobs: int = 1,
    **options: Any,
) -> dict[str, Any]:
    """Train each method at each seed, and write a record of their tests.

    Parameters
    ----------
    data_name, profile
        A dataset, and one of :data:`rollingq_core.profiles.PROFILES`.
    seeds
        One comparison a seed.
    out
        The record to write. The runs lie beside it, in a folder of its name; a call that was cut
        off goes on where it stopped.
    jobs
        Processes to use.
    **options
        Passed to :func:`rollingq_core.training.fit`, for example ``precision``.

    Raises
    ------
    ValueError
        No such dataset or profile, seeds that are no integers of at least 0 or come twice, or
        ``jobs`` below 1.
    """
    require_choice("data_name", data_name, (*DATASETS, *LARGE_DATASETS))
    require_choice("profile", profile, tuple(PROFILES))
    seeds = require_seeds(seeds)
    out = Path(out)
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
    parts = {str(seed): (data_name, profile, seed, out.with_suffix(""), options) for seed in seeds}
    on_gpu = PROFILES[profile].accelerator != "cpu" and torch.cuda.is_available()
    gpu = torch.cuda.get_device_name() if on_gpu else None
    return compute_record(out, head, run_seed, parts, jobs=jobs, gpu=gpu)
