"""Vanilla fusion, RollingQ and the controls over many seeds, and what noise does to each."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from rollingq_core.data import load_dataset
from rollingq_core.evaluation import accuracy_under_noise, attention_contrast
from rollingq_core.records import provenance, read_record, write_record
from rollingq_core.reproduce.settings import METHODS, SETTINGS, Run, run_method

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Settings were chosen on other seeds, 0 to 9; none of these took part.
REPORTING_SEEDS = tuple(range(100, 112))
CURVES = ("air", "query_norm", "share", "gradient_norm", "validation_accuracy", "train_loss")


def summarise(method: str, seed: int, run: Run, modality: str = "audio") -> dict[str, Any]:
    """Return one run's numbers on the test split.

    Parameters
    ----------
    method, seed
        Names of the run.
    run
        The trained model.
    modality
        The modality that noise replaces.
    """
    contrast = attention_contrast(run.model, run.data.test, modality, seed=seed)
    normal, noisy = contrast.share
    accuracy = accuracy_under_noise(run.model, run.data.test, modality, LEVELS, seed=seed)
    return {
        "method": method,
        "seed": seed,
        "accuracy": accuracy.tolist(),
        "share_normal": float(normal.mean()),
        "share_noisy": float(noisy.mean()),
        "pearson": contrast.pearson,
        "probe_accuracy": contrast.normal.probe_accuracy,
        "events": [asdict(event) for event in run.events],
        "history": {
            name: [epoch.get(name) for epoch in run.result.history if name in epoch]
            for name in CURVES
        },
    }


def run_seed(data_name: str, setting_name: str, seed: int) -> list[dict[str, Any]]:
    """Train and test all methods at one seed; the random controls follow RollingQ's events."""
    torch.set_num_threads(1)
    data, setting = load_dataset(data_name, seed=seed), SETTINGS[setting_name]
    events, rows = None, []
    for method in METHODS:
        schedule = events if method.startswith("random") else None
        run = run_method(method, data, setting, seed, schedule=schedule)
        if method == "rollingq":
            events = run.events
        rows.append(summarise(method, seed, run) | {"data_hash": data.data_hash})
    return rows


def reproduce(
    data_name: str = "digits",
    setting_name: str = "P",
    seeds: tuple[int, ...] = REPORTING_SEEDS,
    *,
    out: str | Path,
    jobs: int = 2,
) -> dict[str, Any]:
    """Run the comparison and write its record.

    Each finished seed is kept beside ``out`` until the record is complete, so that a run which
    was cut off goes on where it stopped.

    Parameters
    ----------
    data_name, setting_name
        A dataset of :mod:`rollingq_core.data` and a setting of ``SETTINGS``.
    seeds
        One comparison a seed.
    out
        The record to write.
    jobs
        Processes to use.

    Raises
    ------
    ValueError
        No such setting.
    """
    if setting_name not in SETTINGS:
        raise ValueError(f"setting_name: got {setting_name!r}, expected one of {list(SETTINGS)}")
    out, started = Path(out), time.monotonic()
    parts = out.with_suffix(".parts")
    config = {"data": data_name, "setting": setting_name, **asdict(SETTINGS[setting_name])}

    def one(seed: int) -> list[dict[str, Any]]:
        try:
            part = read_record(str(seed), parts)
        except FileNotFoundError:
            part = {"config": None}
        # Compared as JSON has it, where a tuple is a list.
        if part["config"] != config:
            begun = time.monotonic()
            rows = run_seed(data_name, setting_name, seed)
            part = {"config": config, "rows": rows, "seconds": time.monotonic() - begun}
            write_record(parts / f"{seed}.json", part)
        return part

    tasks = Parallel(n_jobs=jobs, return_as="generator")(delayed(one)(seed) for seed in seeds)
    finished = list(tqdm(tasks, total=len(seeds), desc=f"{data_name}, setting {setting_name}"))
    record = {
        "recipe": "comparison",
        "command": f"python -m rollingq_core reproduce comparison --data {data_name} "
        f"--setting {setting_name} --seeds {len(seeds)}",
        "config": config,
        "seeds": list(seeds),
        "levels": list(LEVELS),
        "seconds": sum(part["seconds"] for part in finished),
        "wall_seconds": time.monotonic() - started,
        **provenance(),
        "runs": [row for part in finished for row in part["rows"]],
    }
    write_record(out, record)
    for seed in seeds:
        (parts / f"{seed}.json").unlink()
    if not any(parts.iterdir()):  # seeds of a longer run that was cut off may be there still
        parts.rmdir()
    return record
