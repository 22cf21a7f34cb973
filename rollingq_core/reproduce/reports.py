"""What recipes keep of a trained model."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rollingq_core._extras import needs

with needs("train", "data"):
    from rollingq_core.evaluation import (
        EVALUATIONS,
        LEVELS,
        attention_contrast,
        familiarity,
        masked_accuracy,
        under_noise,
    )
    from rollingq_core.models.predictions import predict
    from rollingq_core.runs.run import Run

# From a method, a seed and its run to numbers.
Report = Callable[[str, int, Run], dict[str, Any]]
CURVES = ("air", "query_norm", "share", "gradient_norm", "validation_accuracy", "train_loss")


def summarise(method: str, seed: int, run: Run, modality: str | None = None) -> dict[str, Any]:
    """Return one run's numbers on the test split.

    Parameters
    ----------
    method, seed
        Names of the run.
    run
        The trained model, which has attention.
    modality
        The modality that noise replaces; the favoured one by default.
    """
    modality = modality or run.favoured
    contrast = attention_contrast(run.model, run.data.test, modality, seed=seed)
    normal, noisy = contrast.share
    response = under_noise(run.model, run.data.test, modality, LEVELS, seed=seed)
    assert response.share is not None  # else there would be no contrast
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


def deciding(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return :func:`summarise`, and what the fusion answers from one modality alone."""
    seen = masked_accuracy(run.model, run.data.test)
    return summarise(method, seed, run) | {"alone": seen.alone, "without": seen.without}


def noticing(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return accuracy by kind of noise, and whether attention notices it, where there is any."""
    inputs = run.model, run.data.test, run.favoured, seed
    attends = predict(run.model, run.data.validation).share is not None
    notices = EVALUATIONS["correlation"](*inputs) if attends else None
    return EVALUATIONS["noise"](*inputs) | {"correlation": notices}


def familiar(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return how far noise, and the test samples, lie from what was trained on, and who notices."""
    model, data, favoured = run.model, run.data, run.favoured
    distances = familiarity(model, data.train, data.test, favoured, seed)
    leaning = EVALUATIONS["correlation"](model, data.test, favoured, seed)
    return {f"distance_{name}": value for name, value in distances._asdict().items()} | leaning


def accuracies(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return accuracy over noise in the data's favoured modality, whatever the method reads."""
    clean = predict(run.model, run.data.test)
    response = under_noise(run.model, run.data.test, run.favoured, LEVELS, seed=seed)
    return {
        "accuracy": response.accuracy.tolist(),
        "probe_accuracy": clean.probe_accuracy,
        "rotations": [event.epoch for event in run.events],
        "parameters": sum(weights.numel() for weights in run.model.parameters()),
    }


class Tested:
    """A report that is one of ``EVALUATIONS``, by name."""

    def __init__(self, test: str) -> None:
        self.test = test

    def __call__(self, method: str, seed: int, run: Run) -> dict[str, Any]:
        """Return the test's numbers."""
        return EVALUATIONS[self.test](run.model, run.data.test, run.favoured, seed)
