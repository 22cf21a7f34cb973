"""Samples whose tokens are frozen features of an input that noise can still be put on."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from rollingq_core.data.dataset import Array, PairedDataset

# Enough for all levels and draws of one noise test.
KEPT = 24


class EncodedDataset(PairedDataset):
    """A dataset of tokens that remembers what they were made of.

    Models read the tokens. Noise belongs on the input: the noise tests disturb ``raw``, and have it
    encoded anew.

    Parameters
    ----------
    inputs, labels
        As in :class:`PairedDataset`: the tokens of the undisturbed inputs.
    raw
        By modality, the standardised inputs ``[N, ...]`` that the tokens were made of.
    encode
        From a modality's name and such inputs to tokens ``[N, L, p]``; sent to other processes with
        the dataset.

    Raises
    ------
    ValueError
        Raw inputs of other modalities or lengths than the tokens.
    """

    def __init__(
        self,
        inputs: Mapping[str, Array],
        labels: Array,
        raw: Mapping[str, Tensor],
        encode: Callable[[str, Tensor], Tensor],
    ) -> None:
        super().__init__(inputs, labels)
        if {*raw} != {*self.inputs} or any(len(values) != len(self) for values in raw.values()):
            sizes = {name: list(values.shape) for name, values in raw.items()}
            raise ValueError(
                f"raw: got {sizes}, expected {len(self)} samples of each of {[*self.inputs]}"
            )
        self.raw, self.encode = dict(raw), encode
        self._encoded: dict[Any, Tensor] = {}

    def encoded(self, key: Any, name: str, disturbed: Callable[[], Tensor]) -> Tensor:
        """Return the tokens of disturbed inputs; the last few are kept by their ``key``.

        Every method is tested on the same noise, and encoding it costs more than all else.
        """
        if key not in self._encoded:
            while len(self._encoded) >= KEPT:
                self._encoded.pop(next(iter(self._encoded)))
            self._encoded[key] = self.encode(name, disturbed())
        return self._encoded[key]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be made again."""
        return vars(self) | {"_encoded": {}}
