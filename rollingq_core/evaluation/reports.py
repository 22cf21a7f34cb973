"""Every test that a trained model can be put to, one line each, and what is kept of it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, get_args

from rollingq_core.data.dataset import PairedDataset
from rollingq_core.evaluation.attention import attention_contrast, sensitivity
from rollingq_core.evaluation.conflict import conflict
from rollingq_core.evaluation.cost import cost
from rollingq_core.evaluation.masks import masked_accuracy
from rollingq_core.evaluation.noise import LEVELS, Mechanism, under_noise
from rollingq_core.evaluation.ood import detection
from rollingq_core.evaluation.quag import quag
from rollingq_core.models.multimodal import MultimodalModel

# From model, test samples, favoured modality and seed to numbers.
Report = Callable[[MultimodalModel, PairedDataset, str, int], dict[str, Any]]


def correlation(
    model: MultimodalModel, dataset: PairedDataset, favoured: str, seed: int = 0
) -> dict[str, Any]:
    """Return whether attention notices that the favoured modality is noise (Table 2)."""
    contrast = attention_contrast(model, dataset, favoured, seed=seed)
    normal, noisy = (float(share.mean()) for share in contrast.share)
    return sensitivity(*contrast.share)._asdict() | {"share_normal": normal, "share_noisy": noisy}


def noise(
    model: MultimodalModel, dataset: PairedDataset, favoured: str, seed: int = 0
) -> dict[str, Any]:
    """Return accuracy over noise levels (Table 3), by mechanism and by who gets the noise."""
    names, accuracies = model.modalities, {}
    everyone = {2: "both"}.get(len(names), "all")
    targets = [*names, everyone] if len(names) > 1 else names
    for mechanism, target in product(get_args(Mechanism), targets):
        chosen = names if target == everyone else target
        response = under_noise(model, dataset, chosen, LEVELS, mechanism=mechanism, seed=seed)
        accuracies[f"{mechanism} {target}"] = response.accuracy.tolist()
    return accuracies


def of_modality(measure: Callable[..., NamedTuple]) -> Report:
    """Return the report of a test that needs model, samples, modality and seed."""
    return lambda model, dataset, favoured, seed: measure(model, dataset, favoured, seed)._asdict()


def of_model(measure: Callable[..., NamedTuple]) -> Report:
    """Return the report of a test that needs model and samples only."""
    return lambda model, dataset, favoured, seed: measure(model, dataset)._asdict()


def calibrations(
    model: MultimodalModel, dataset: PairedDataset, favoured: str, seed: int = 0
) -> dict[str, Any]:
    """Return how confidence keeps up with accuracy as noise is mixed into the favoured one."""
    response = under_noise(model, dataset, favoured, LEVELS, seed=seed)
    return {
        "accuracy": response.accuracy.tolist(),
        "ece": response.ece.tolist(),
        "reliability": [
            [[round(value, 4) for value in bin_] for bin_ in level]
            for level in response.reliability.tolist()
        ],
    }


@dataclass(frozen=True)
class Evaluation:
    """A test of a trained model.

    Parameters
    ----------
    about
        What it tells, in a line.
    report
        From model, test samples, favoured modality and seed to numbers: of names, numbers, lists
        and dicts of these.
    by_level
        Names (or their beginnings) of lists that hold a number for each of ``LEVELS``.
    needs_attention
        Whether a static fusion has nothing to tell it.
    least_modalities
        How many modalities it takes.

    Examples
    --------
    >>> [name for name, test in EVALUATIONS.items() if test.needs_attention]
    ['correlation', 'conflict', 'quag']
    """

    about: str
    report: Report
    by_level: tuple[str, ...] = ()
    needs_attention: bool = False
    least_modalities: int = 1

    def __call__(
        self, model: MultimodalModel, dataset: PairedDataset, favoured: str, seed: int = 0
    ) -> dict[str, Any]:
        """Return the report.

        Raises
        ------
        ValueError
            The model has no attention to tell of, or too few modalities.
        """
        if len(model.modalities) < self.least_modalities:
            raise ValueError(
                f"model: got modalities {list(model.modalities)}, "
                f"expected at least {self.least_modalities}"
            )
        return self.report(model, dataset, favoured, seed)


MECHANISMS = get_args(Mechanism)
EVALUATIONS = {
    "noise": Evaluation("accuracy as one modality or all become noise", noise, MECHANISMS),
    "correlation": Evaluation(
        "whether attention notices noise", correlation, needs_attention=True, least_modalities=2
    ),
    "conflict": Evaluation(
        "whom the model follows where the modalities disagree",
        of_modality(conflict),
        needs_attention=True,
        least_modalities=2,
    ),
    "masks": Evaluation(
        "what the fusion answers from some modalities alone",
        of_model(masked_accuracy),
        least_modalities=2,
    ),
    "quag": Evaluation(
        "accuracy with attention averaged within modalities",
        of_model(quag),
        needs_attention=True,
        least_modalities=2,
    ),
    "ood": Evaluation(
        "whether confidence tells known classes from all else", of_modality(detection)
    ),
    "cost": Evaluation("weights and operations", of_model(cost)),
    "calibration": Evaluation(
        "confidence as the favoured modality becomes noise", calibrations, ("accuracy", "ece")
    ),
}
