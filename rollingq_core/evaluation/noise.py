"""Noise at test time: what becomes of answers and attention when a modality fails."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import scipy
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rollingq_core._checks import require_choice, require_integer
from rollingq_core._padding import padding_name
from rollingq_core.data.dataset import PairedDataset
from rollingq_core.data.encoded import EncodedDataset
from rollingq_core.evaluation.answers import modalities_of, require_fraction, require_levels
from rollingq_core.evaluation.calibration import calibration
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import predict

Mechanism = Literal["mix", "add", "replace", "zeros", "offset"]
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


class NoisyDataset(Dataset):
    r"""A dataset whose samples get noise as they are read; no noisy copy of it is ever held.

    With x standardised by the training split, and :math:`\varepsilon \sim \mathcal N(0, 1)` for
    each element, level l gives by ``mechanism``

    - ``"mix"``: :math:`(1 - l)\, x + l\, \varepsilon`, at level 1 noise alone,
    - ``"add"``: :math:`x + l\, \varepsilon`,
    - ``"replace"``: with probability l the whole sample is noise, otherwise it stays,
    - ``"zeros"``: with probability l the whole sample is missing, which is 0, the training mean,
    - ``"offset"``: what MultiBench does to series (Liang et al. 2021): one
      :math:`\varepsilon` for the whole sample, :math:`x + l\, \varepsilon`, and then with
      probability l the sample is 0.

    A sample's noise depends on seed, modality and index alone: it is the same at each level, for
    each mechanism and in any order. At level 0 the bits stay. Padding masks stay as they are, and
    padded tokens get no noise. Where the tokens are frozen features
    (:class:`rollingq_core.data.encoded.EncodedDataset`), the noise is put on what they were made
    of.

    Parameters
    ----------
    dataset
        Samples as in :class:`rollingq_core.data.PairedDataset`; not changed.
    modalities
        Name or names of those that get noise.
    level
        l, in [0, 1].
    mechanism
        What the noise does.
    seed
        Seed of the draw, at least 0.

    Raises
    ------
    ValueError
        An option out of range, no such modality, or no sample.
    """

    def __init__(
        self,
        dataset: PairedDataset,
        modalities: str | Sequence[str],
        level: float,
        *,
        mechanism: Mechanism = "mix",
        seed: int = 0,
    ) -> None:
        require_choice("mechanism", mechanism, get_args(Mechanism))
        self.dataset, self.mechanism = dataset, mechanism
        self.level = require_fraction("level", level)
        self.seed = require_integer("seed", seed, at_least=0)
        names = modalities_of(dataset)
        wanted = [modalities] if isinstance(modalities, str) else list(modalities)
        if not wanted or any(name not in names for name in wanted):
            raise ValueError(f"modalities: got {modalities!r}, expected some of {names}")
        self.streams = {name: names.index(name) for name in wanted}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the samples at ``indices`` as one batch."""
        inputs, labels = self.dataset.__getitems__(indices)
        if self.level == 0:
            return inputs, labels
        noisy = {
            name: _unpadded(inputs, name, self._noisy(name, inputs[name], stream, indices))
            for name, stream in self.streams.items()
        }
        return inputs | noisy, labels

    def _noisy(self, name: str, clean: Tensor, stream: int, indices: Sequence[int]) -> Tensor:
        if not isinstance(self.dataset, EncodedDataset):
            return self._disturbed(clean, stream, indices)
        raw = self.dataset.raw[name][list(indices)]
        key = name, self.level, self.mechanism, self.seed, tuple(map(int, indices))
        return self.dataset.encoded(key, name, lambda: self._disturbed(raw, stream, indices))

    def _disturbed(self, clean: Tensor, stream: int, indices: Sequence[int]) -> Tensor:
        # Of a sample that is lost or shifted as a whole, one number is enough.
        shape = (1,) if self.mechanism in ("zeros", "offset") else clean.shape[1:]
        noise, chance = _draw(self.seed, stream, indices, shape)
        if self.mechanism == "add":
            return clean + self.level * noise
        if self.mechanism == "mix":
            return (1 - self.level) * clean + self.level * noise
        every = (-1, *[1] * (clean.dim() - 1))  # of a sample's axes
        gone = (chance < self.level).view(every)
        if self.mechanism == "replace":
            return torch.where(gone, noise, clean)
        if self.mechanism == "offset":
            clean = clean + self.level * noise.flatten(1)[:, 0].view(every)
        return clean.masked_fill(gone, 0)


def _unpadded(inputs: dict[str, Tensor], name: str, noisy: Tensor) -> Tensor:
    """Return ``noisy`` with its padded tokens as they were, where its second axis is tokens."""
    padded = inputs.get(padding_name(name))
    if padded is None or padded.shape != noisy.shape[:2]:
        return noisy
    return torch.where(padded.view(*padded.shape, *[1] * (noisy.dim() - 2)), inputs[name], noisy)


def _draw(
    seed: int, stream: int, indices: Sequence[int], shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return N(0, 1) noise and a number in [0, 1) for each sample."""
    # A generator that counts: each sample has a stretch of its own.
    bits = np.random.Philox(key=[seed, stream])
    state, generator = bits.state, np.random.Generator(bits)
    noise, chance = np.empty((len(indices), *shape), np.float32), np.empty(len(indices))
    for row, index in enumerate(indices):
        state["state"]["counter"][:] = (0, int(index), 0, 0)
        bits.state = state
        chance[row] = generator.random()
        generator.standard_normal(out=noise[row], dtype=np.float32)
    return torch.from_numpy(noise), torch.from_numpy(chance)


class NoiseResponse(NamedTuple):
    """What noise does at each of L levels, mean over samples and draws.

    ``accuracy`` [L]; ``share`` [L, M], attention mass of each modality (None where the fusion is
    static); ``ece`` [L], the expected
    calibration error; ``reliability`` [L, K, 3], as in :class:`Calibration`, of the answers of all
    draws together (with several draws, its own error is at most ``ece``, the mean of theirs).
    """

    accuracy: Tensor
    share: Tensor | None
    ece: Tensor
    reliability: Tensor


def under_noise(
    model: MultimodalModel,
    dataset: PairedDataset,
    modalities: str | Sequence[str],
    levels: Sequence[float] = LEVELS,
    *,
    mechanism: Mechanism = "mix",
    draws: int = 3,
    seed: int = 0,
) -> NoiseResponse:
    """Return accuracy, attention shares and calibration at each noise level, from the same passes.

    Parameters
    ----------
    model, dataset
        A trained model and the samples to test it on.
    modalities, mechanism
        As in :class:`NoisyDataset`.
    levels
        Rising levels in [0, 1].
    draws, seed
        Number of draws of the noise at each level above 0, and the first one's seed.

    Raises
    ------
    ValueError
        An option out of range, no such modality, no draw, labels that are no class of the model,
        or answers that are not finite.
    """
    levels = require_levels("levels", levels)
    draws = require_integer("draws", draws, at_least=1)
    seed = require_integer("seed", seed, at_least=0)
    columns = []
    for level in levels:
        seeds = [seed] if level == 0 else range(seed, seed + draws)
        predictions = [
            predict(model, NoisyDataset(dataset, modalities, level, mechanism=mechanism, seed=s))
            for s in seeds
        ]
        judged = [calibration(draw.logits, draw.labels) for draw in predictions]
        shares = [draw.share.mean(0) for draw in predictions if draw.share is not None]
        columns.append(
            (
                torch.tensor([draw.accuracy for draw in predictions]).mean(),
                torch.stack(shares).mean(0) if shares else None,
                torch.tensor([draw.ece for draw in judged]).mean(),
                _pooled(torch.stack([draw.reliability for draw in judged])),
            )
        )
    return NoiseResponse._make(
        None if column[0] is None else torch.stack(column) for column in zip(*columns, strict=True)
    )


def _pooled(reliability: Tensor) -> Tensor:
    """Return the reliability of all draws together, from ``[D, K, 3]`` to ``[K, 3]``."""
    weight = reliability[..., :1]
    means = (weight * reliability[..., 1:]).sum(0) / weight.sum(0).clamp(min=1e-12)
    return torch.cat([weight.mean(0), means], dim=-1)


def robustness_areas(
    levels: Sequence[float], accuracy: Sequence[float], baseline: Sequence[float]
) -> dict[str, float]:
    """Return the areas under accuracy over the noise level.

    Parameters
    ----------
    levels
        Two or more rising levels in [0, 1].
    accuracy, baseline
        Accuracies of a method and of the baseline at these levels, ``[L]``.

    Returns
    -------
    dict
        ``relative``, the area itself; ``effective``, the area between the method's curve and the
        baseline's after that is shifted to start where the method's starts, so that a gain on
        clean samples does not count as robustness.

    Raises
    ------
    ValueError
        Levels that do not rise, lengths that differ, or accuracies outside [0, 1].
    """
    x = np.asarray(require_levels("levels", levels, at_least=2))
    f, g = (
        np.asarray([require_fraction(f"{name}[{i}]", value) for i, value in enumerate(values)])
        for name, values in (("accuracy", accuracy), ("baseline", baseline))
    )
    if not len(x) == len(f) == len(g):
        raise ValueError(
            f"accuracy: got {len(f)} and for the baseline {len(g)}, expected {len(x)} each, "
            "one for each level"
        )
    return {
        "relative": float(scipy.integrate.trapezoid(f, x)),
        "effective": float(scipy.integrate.trapezoid(f - (g + f[0] - g[0]), x)),
    }
