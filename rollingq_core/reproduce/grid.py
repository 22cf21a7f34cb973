"""The map of rho and beta: one run for each pair and seed, as distinct runs and their cells."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rollingq_core.evaluation.noise import LEVELS
from rollingq_core.reproduce.reports import summarise
from rollingq_core.reproduce.resumable import compute_record, require_seeds
from rollingq_core.reproduce.seeds import TUNING_SEEDS
from rollingq_core.runs.run import Run
from rollingq_core.runs.sweep import sweep
from rollingq_core.settings import SETTINGS

RHOS = (0.3, 0.5, 0.8, 1.0, 2.0, 3.0, 4.0, 6.0, 10.0)
BETAS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


def report(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return what the training map draws of one run; curves are rounded to what can be seen."""
    row = summarise(method, seed, run)
    curves = row["history"]
    return {
        "air": [round(value, 3) for value in curves["air"]],
        "share": [round(value[run.favoured], 3) for value in curves["share"]],
        "query_norm": [round(value, 2) for value in curves["query_norm"]],
        "validation_accuracy": [round(value, 3) for value in curves["validation_accuracy"]],
        "rotations": [event["epoch"] for event in row["events"]],
        "angles": [round(event["angle"], 3) for event in row["events"]],
        "accuracy": [round(value, 4) for value in row["accuracy"]],
        **{name: round(row[name], 3) for name in ("share_normal", "share_noisy", "pearson")},
    }


def reproduce(
    seeds: tuple[int, ...] = TUNING_SEEDS, *, out: str | Path, jobs: int = 2
) -> dict[str, Any]:
    """Train setting T at each rho, beta and seed, and write the record of the training map.

    Pairs of rho and beta that call for the same rotations are one run, and share its row, whose
    ``cells`` are their places in ``rhos`` and ``betas``. A pair that calls for none is a cell of
    the vanilla run.

    Parameters
    ----------
    seeds
        One map a seed.
    out
        The record to write; a call that was cut off goes on where it stopped.
    jobs
        Processes to use.

    Raises
    ------
    ValueError
        Seeds that are no integers of at least 0 or come twice, or ``jobs`` below 1.
    """
    seeds = require_seeds(seeds)
    head = {
        "recipe": "grid",
        "command": f"python -m rollingq_core reproduce grid --seeds {len(seeds)}",
        "config": {"data": "synthetic", "setting": "T", "rhos": RHOS, "betas": BETAS}
        | asdict(SETTINGS["T"]),
        "seeds": seeds,
        "rhos": RHOS,
        "betas": BETAS,
        "levels": LEVELS,
    }
    return compute_record(out, head, run_seed, {str(s): (s,) for s in seeds}, jobs=jobs)


def run_seed(seed: int) -> list[dict[str, Any]]:
    """Return the distinct runs of one seed, vanilla first."""
    swept = sweep(
        "synthetic",
        SETTINGS["T"],
        [seed],
        over={"rho": RHOS, "beta": BETAS},
        methods=("mt", "mt+rollingq"),
        report=report,
        batch=1 + len(RHOS) * len(BETAS),
        progress=False,
    )
    rows: list[dict[str, Any]] = []
    for row in swept:
        rho, beta = row.pop("rho"), row.pop("beta")
        same = [earlier for earlier in rows if _numbers(earlier) == _numbers(row)]
        if not same:
            rows.append(row | {"cells": []})
            same = rows[-1:]
        if rho is not None:
            same[0]["cells"].append((RHOS.index(rho), BETAS.index(beta)))
    return rows


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("method", "cells")}
