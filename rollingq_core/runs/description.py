"""What a run is: dataset, method, profile, seed and setting, as a file can hold it."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset

from rollingq_core._checks import require_choice, require_integer
from rollingq_core._extras import needs
from rollingq_core._padding import separated
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.settings import (
    LARGEST_SEED,
    PAPER,
    PAPER_ROTATIONS,
    SEQUENCE_DIM,
    SETTINGS,
    SMOKE,
    Setting,
    TrainingConfig,
)

with needs("train", "data"):
    from rollingq_core.data.dataset import DataSplits, PairedDataset, hash_splits
    from rollingq_core.data.sources import is_file_name, load_dataset
    from rollingq_core.data.store import sha256_file, verify_file
    from rollingq_core.methods import METHODS, Schedule
    from rollingq_core.models.built import build_vit_model
    from rollingq_core.models.paper import build_paper_model, build_small_paper_model
    from rollingq_core.models.small import build_model, input_shapes
    from rollingq_core.runs.run import Prepared, prepare

VARIABLE = "ROLLINGQ_PROFILE"


def _smoke(data: DataSplits, setting: Setting, seed: int, **options: Any) -> MultimodalModel:
    if data.patch is None:  # tokens already, which a vision transformer does not take
        return build_model(data, setting, seed, **options)
    # Of large inputs, few and large patches, so that it takes seconds.
    data = replace(data, patch=data.bands or data.patch)
    return build_small_paper_model(
        data, cls_std=setting.cls_std, dim=setting.dim, seed=seed, **options
    )


def _book(data: DataSplits, setting: Setting, seed: int, **options: Any) -> MultimodalModel:
    return build_model(replace(data, patch=data.bands or data.patch), setting, seed, **options)


def _paper(
    data: DataSplits, setting: Setting, seed: int, pretrained: bool = False, **options: Any
) -> MultimodalModel:
    if data.patch is None:  # sequences, for which the paper has a transformer from scratch
        if "weights" in options:
            raise ValueError("weights: got a file for encoders of sequences, expected None")
        narrow = replace(setting, dim=SEQUENCE_DIM)
        return build_vit_model(data, narrow, seed, **options)
    options |= {"pretrained": pretrained}
    return build_paper_model(data, cls_std=setting.cls_std, seed=seed, **options)


@dataclass(frozen=True)
class Profile:
    """Setting, model and accelerator, and how many samples of each split are used (None: all)."""

    setting: Setting
    build: Callable[..., MultimodalModel]
    accelerator: str
    samples: int | None = None
    pretrained: bool = False


PROFILES = {
    # The paper's model in small.
    "smoke": Profile(SMOKE, _smoke, "cpu", samples=64),
    # The book's own runs.
    "cpu": Profile(SETTINGS["P"], _book, "cpu"),
    "gpu": Profile(PAPER, _paper, "auto", pretrained=True),
}


def current_profile() -> str:
    """Return the profile that the environment variable ``ROLLINGQ_PROFILE`` names, else ``"cpu"``.

    Raises
    ------
    ValueError
        There is no such profile.
    """
    name = os.environ.get(VARIABLE) or "cpu"
    require_choice(VARIABLE, name, tuple(PROFILES))
    return name


@dataclass(frozen=True)
class RunDescription:
    """What a run is, so that it can be continued and its model built again.

    Parameters
    ----------
    data, method, profile
        A dataset's name or the path of a reader's own file, one of ``METHODS`` and one of
        ``PROFILES``.
    seed
        Seed of the pairs, the weights, the order and the random directions.
    setting
        The training and RollingQ's numbers.
    pretrained
        Whether the encoders start from ImageNet-21k.
    weights
        The path of a file that the encoders start from instead, in a profile of the paper's model.
    measured
        What the data turned out to be: its hash, input shapes and classes; and the SHA-256 of files
        of the reader's own.
    """

    data: str
    method: str
    profile: str
    seed: int
    setting: Setting
    pretrained: bool = False
    weights: str | None = None
    measured: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_choice("method", self.method, tuple(METHODS))
        require_choice("profile", self.profile, tuple(PROFILES))
        require_integer("seed", self.seed, at_least=0, at_most=LARGEST_SEED)
        if self.weights is not None and not PROFILES[self.profile].pretrained:
            able = [name for name, profile in PROFILES.items() if profile.pretrained]
            raise ValueError(
                f"weights: got a file for profile {self.profile!r}, whose encoders are too small "
                f"for it, expected one of {able}"
            )

    @classmethod
    def of_profile(
        cls, data: str, method: str, profile: str | None = None, seed: int = 0
    ) -> "RunDescription":
        """Return the run of a profile's own numbers; without one, of the environment's."""
        name = profile or current_profile()
        require_choice("profile", name, tuple(PROFILES))
        chosen = PROFILES[name]
        setting = chosen.setting
        if setting == PAPER:
            limit = PAPER_ROTATIONS.get(data, PAPER.max_rotations)
            setting = replace(setting, max_rotations=limit)
        return cls(data, method, name, seed, setting, chosen.pretrained)

    def load_data(self, name: str | None = None) -> DataSplits:
        """Return its dataset, or that of another name, in the size of its profile.

        Raises
        ------
        ValueError
            A file that the run was trained on has changed since.
        """
        known = self.measured.get("file_sha256")
        if name is None and known is not None:
            verify_file(self.data, known)
        data = load_dataset(name or self.data, seed=self.seed)
        samples = PROFILES[self.profile].samples
        return data if samples is None else few(data, samples)

    def prepare(
        self,
        data: DataSplits,
        *,
        fresh: bool = False,
        schedule: Schedule = None,
    ) -> Prepared:
        """Return the run, not begun; ``schedule`` as in :func:`rollingq_core.runs.prepare`.

        Only where it is ``fresh`` are the weights that it starts from fetched or read.
        """
        build = PROFILES[self.profile].build
        if fresh and self.weights is not None:
            build = partial(build, weights=self.weights)
        elif fresh and self.pretrained:
            build = partial(build, pretrained=True)
        return prepare(self.method, data, self.setting, self.seed, schedule, build)

    def as_dict(self) -> dict[str, Any]:
        """Return numbers and strings only, as :meth:`from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> "RunDescription":
        """Return what :meth:`as_dict` wrote; anything else raises a ``ValueError``."""
        try:
            setting = dict(content["setting"])
            setting["training"] = TrainingConfig(**setting["training"])
            run = cls(**{**content, "setting": Setting(**setting)})
            run.measured["data_hash"], run.measured["shapes"], run.measured["classes"]
            return run
        except (TypeError, KeyError) as error:
            raise ValueError(f"content: got no description of a run ({error})") from error


def measure(data: DataSplits, name: str = "") -> dict[str, Any]:
    """Return what a model has to match: the data's hash, input shapes and classes.

    Of a reader's own file, whose ``name`` is its path, also the file's SHA-256.
    """
    file = {"file_sha256": sha256_file(name)} if is_file_name(name) else {}
    return file | {
        "data_hash": data.data_hash,
        "shapes": {name: list(shape) for name, shape in input_shapes(data).items()},
        "classes": list(data.classes),
    }


def few(data: DataSplits, samples: int) -> DataSplits:
    """Return a dataset of at most ``samples`` in each split, evenly spaced, held in memory."""
    require_integer("samples", samples, at_least=1)
    places = ("train", "validation", "test")
    splits = {place: _few_of(getattr(data, place), samples) for place in places}
    return DataSplits(
        name=data.name,
        classes=data.classes,
        patch=data.patch,
        data_hash=hash_splits(*splits.values()),
        favoured=data.favoured,
        bands=data.bands,
        **splits,
    )


def _few_of(split: Dataset, samples: int) -> PairedDataset:
    count = min(samples, len(split))  # type: ignore[arg-type]
    chosen = torch.linspace(0, len(split) - 1, count).round().long()  # type: ignore[arg-type]
    # Pictures that are cut at random are cut alike each time.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batch, labels = split.__getitems__(chosen.tolist())  # type: ignore[attr-defined]
    inputs, padding = separated(batch)
    others = {kind: _few_of(o, samples) for kind, o in getattr(split, "outside", {}).items()}
    return PairedDataset(inputs, labels, padding, others)
