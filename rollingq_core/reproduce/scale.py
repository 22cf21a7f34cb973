"""The paper's comparison at the size of a profile: full inputs, through run folders."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from rollingq_core.profiles import METHODS, PROFILES, RunDescription
from rollingq_core.records import provenance, write_record
from rollingq_core.reproduce.comparison import LEVELS, REPORTING_SEEDS, summarise
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


def reproduce(
    data_name: str = "avmnist_full",
    profile: str = "gpu",
    seeds: tuple[int, ...] = SEEDS,
    *,
    out: str | Path,
    **options: Any,
) -> dict[str, Any]:
    """Train each method at each seed in a folder of its own, and write a record of their tests.

    Parameters
    ----------
    data_name, profile
        A dataset, and one of :data:`rollingq_core.profiles.PROFILES`.
    seeds
        One comparison a seed.
    out
        The record to write. The runs lie beside it, in a folder of its name; a call that was cut
        off goes on where it stopped.
    **options
        Passed to :func:`rollingq_core.training.fit`, for example ``precision``.
    """
    out = Path(out)
    rows, gpu = [], None
    plans = [(seed, method) for seed in seeds for method in COMPARED]
    data, schedule = None, None
    for seed, method in tqdm(plans, desc=out.stem, unit="run"):
        wanted = RunDescription.of_profile(data_name, method, profile, seed)
        if method == COMPARED[0]:
            data = wanted.load_data()
        begun = time.monotonic()
        run = train_in(
            out.with_suffix("") / f"{method}-{seed}",
            wanted,
            data=data,
            schedule=schedule if "matched" in method else None,
            **options,
        )
        seconds = time.monotonic() - begun
        if method == "mt+rollingq":
            schedule = run.events
        device = next(run.model.parameters()).device
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        rows.append(tested(METHODS[method], seed, run) | {"seconds": seconds})
    setting = asdict(PROFILES[profile].setting)
    record = {
        "recipe": "scale",
        "command": f"python -m rollingq_core reproduce scale --data {data_name} "
        f"--profile {profile} --seeds {len(seeds)}"
        + "".join(f" --{name} {value}" for name, value in options.items()),
        "config": {"data": data_name, "profile": profile} | setting | options,
        "seeds": list(seeds),
        "levels": list(LEVELS),
        "samples": {name: len(getattr(data, name)) for name in ("train", "validation", "test")},
        **provenance(gpu),
        "runs": rows,
    }
    write_record(out, record)
    return record
