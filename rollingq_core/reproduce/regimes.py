"""When does the anchor help? Setting T over sharpness, modality gap, training size and budget."""

from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from rollingq_core.evaluation import attention_contrast, under_noise
from rollingq_core.reproduce.resumable import compute_record, require_seeds
from rollingq_core.reproduce.seeds import REPORTING_SEEDS
from rollingq_core.runs.run import Run
from rollingq_core.runs.sweep import sweep
from rollingq_core.settings import SETTINGS

# Deviation of the class token at the start: it decides how sharp attention can be.
SHARPNESS = (0.02, 0.3, 1.0)
# Strength of the visual signal, where audio's is 3.
VISUAL = (3.0, 2.0)
SIZES = (200, 600)
BUDGETS = (1, 3, 10)
LEVELS = (0.0, 0.5, 1.0)
METHODS = ("mt", "mt+rollingq", "mt+random_matched", "uniform")


def report(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return one run's numbers on the test split, noise mixed into audio."""
    contrast = attention_contrast(run.model, run.data.test, run.favoured, seed=seed)
    response = under_noise(run.model, run.data.test, run.favoured, LEVELS, draws=1, seed=seed)
    last = run.result.history[-1]
    return {
        "accuracy": [round(value, 4) for value in response.accuracy.tolist()],
        "share_normal": round(float(contrast.share[0].mean()), 3),
        "share_noisy": round(float(contrast.share[1].mean()), 3),
        "pearson": round(contrast.pearson, 3),
        "air": round(last["air"], 3),
        "query_norm": round(last["query_norm"], 2),
        "rotations": [event.epoch for event in run.events],
    }


def reproduce(
    seeds: tuple[int, ...] = REPORTING_SEEDS, *, out: str | Path, jobs: int = 2
) -> dict[str, Any]:
    """Train setting T in each regime with each method and budget, and write the record.

    Parameters
    ----------
    seeds, out, jobs
        One run of each a seed, else as in :func:`rollingq_core.reproduce.grid.reproduce`, which
        also tells what is refused.
    """
    seeds = require_seeds(seeds)
    axes = {"cls_std": SHARPNESS, "visual_strength": VISUAL, "train_samples": SIZES}
    head = {
        "recipe": "regimes",
        "command": f"python -m rollingq_core reproduce regimes --seeds {len(seeds)}",
        "config": {"data": "synthetic", "setting": "T", "seeds": seeds}
        | {"axes": axes, "budgets": BUDGETS, "methods": METHODS}
        | asdict(SETTINGS["T"]),
        "seeds": seeds,
        **axes,
        "budgets": BUDGETS,
        "levels": LEVELS,
    }
    regimes = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    chunks = {
        "-".join(f"{value:g}" for value in regime.values()): (regime, seeds) for regime in regimes
    }
    return compute_record(out, head, run_regime, chunks, jobs=jobs)


def run_regime(regime: dict[str, Any], seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the rows of one regime; ``max_rotations`` is None where there are none."""
    setting = replace(SETTINGS["T"], cls_std=regime["cls_std"])
    rows = sweep(
        "synthetic",
        setting,
        seeds,
        over={"max_rotations": BUDGETS},
        methods=METHODS,
        report=report,
        progress=False,
        visual_strength=regime["visual_strength"],
        train_samples=regime["train_samples"],
    )
    return [
        {name: value for name, value in row.items() if name != "data_hash"} | regime for row in rows
    ]
