"""The noise tests: who notices noise, what it costs, whom a model believes, how sure it stays."""

from itertools import product
from typing import Any, get_args

from rollingq_core.evaluation import LEVELS, attention_contrast, conflict, sensitivity, under_noise
from rollingq_core.evaluation.noise import Mechanism
from rollingq_core.settings import Run

# The modality that most models of this book lean on.
BIASED = "audio"


def table2(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return whether attention notices that the biased modality is noise (the paper's Table 2)."""
    contrast = attention_contrast(run.model, run.data.test, BIASED, seed=seed)
    normal, noisy = (float(share.mean()) for share in contrast.share)
    return sensitivity(*contrast.share)._asdict() | {"share_normal": normal, "share_noisy": noisy}


def table3(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return accuracy over noise levels (Table 3), by mechanism and by who gets the noise."""
    names, found = run.model.modalities, {}
    for mechanism, target in product(get_args(Mechanism), [*names, "both"]):
        chosen = names if target == "both" else target
        response = under_noise(
            run.model, run.data.test, chosen, LEVELS, mechanism=mechanism, seed=seed
        )
        found[f"{mechanism} {target}"] = response.accuracy.tolist()
    return found


def conflicts(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return whom the model follows where sound and picture are of different classes."""
    return conflict(run.model, run.data.test, BIASED, seed=seed)._asdict()


def calibrations(method: str, seed: int, run: Run) -> dict[str, Any]:
    """Return how confidence keeps up with accuracy as noise is mixed into the biased modality."""
    response = under_noise(run.model, run.data.test, BIASED, LEVELS, seed=seed)
    return {
        "accuracy": response.accuracy.tolist(),
        "ece": response.ece.tolist(),
        "reliability": [
            [[round(x, 4) for x in bin_] for bin_ in level]
            for level in response.reliability.tolist()
        ],
    }
