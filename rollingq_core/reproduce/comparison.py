"""Vanilla fusion, RollingQ and the controls over many seeds, and what noise does to each."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rollingq_core.evaluation import attention_contrast, under_noise
from rollingq_core.evaluation.noise import LEVELS
from rollingq_core.reproduce.parts import compute_record
from rollingq_core.settings import METHODS, SETTINGS, Run
from rollingq_core.sweep import sweep

# Seeds trained as one batch, and kept as one part.
TOGETHER = 3
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
    response = under_noise(run.model, run.data.test, modality, LEVELS, seed=seed)
    return {
        "method": method,
        "seed": seed,
        "accuracy": response.accuracy.tolist(),
        "shares": response.share[:, contrast.index].tolist(),
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


def run_seeds(data_name: str, setting_name: str, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """Train and test all methods at some seeds, and return a row each."""
    rows = sweep(
        data_name,
        SETTINGS[setting_name],
        seeds,
        report=summarise,
        methods=METHODS,
        together=2 * len(seeds),
        progress=False,
    )
    return sorted(rows, key=lambda r: (seeds.index(r["seed"]), METHODS.index(r["method"])))


def reproduce(
    data_name: str = "digits",
    setting_name: str = "P",
    seeds: tuple[int, ...] = REPORTING_SEEDS,
    *,
    out: str | Path,
    jobs: int = 2,
) -> dict[str, Any]:
    """Run the comparison and write its record.

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
    head = {
        "recipe": "comparison",
        "command": f"python -m rollingq_core reproduce comparison --data {data_name} "
        f"--setting {setting_name} --seeds {len(seeds)}",
        "config": {"data": data_name, "setting": setting_name, **asdict(SETTINGS[setting_name])},
        "seeds": list(seeds),
        "levels": list(LEVELS),
    }
    groups = [seeds[start : start + TOGETHER] for start in range(0, len(seeds), TOGETHER)]
    parts = {"-".join(map(str, group)): (data_name, setting_name, group) for group in groups}
    return compute_record(out, head, run_seeds, parts, jobs=jobs)
