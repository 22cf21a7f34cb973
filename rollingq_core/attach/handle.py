"""The handle of a rotation inside an attention layer."""

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from rollingq_core.attach.observation import Observation, mean_keys
from rollingq_core.rotation import QueryRotation


class Attached:
    """A rotation inside an attention layer.

    Attributes
    ----------
    rotation : QueryRotation
        The layer's new submodule.
    output : Observation or None
        The last training batch, for :meth:`RollingQ.observe`.
    padding : Tensor or None
        ``[B, L]`` bool, True where a key is padding: set it before each batch where the layer does
        not get a ``key_padding_mask`` itself.

    Examples
    --------
    >>> from rollingq_core import attach
    >>> layer = nn.MultiheadAttention(8, 1, batch_first=True)
    >>> handle = attach(layer, [(1, 5), (5, 8)])
    >>> int(handle.rotation.count), handle.output is None
    (0, True)
    >>> handle.detach()
    """

    def __init__(self, layer: nn.Module, dim: int, spans: list[tuple[int, int]], row: int) -> None:
        self.layer, self.spans, self.row = layer, spans, row
        self.output: Observation | None = None
        self.padding: Tensor | None = None
        like = next(layer.parameters())
        layer.rotation = self.rotation = KnownRotation(dim).to(like.device)
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def detach(self) -> None:
        """Take the rotation out again, and leave the layer as it was before :func:`attach`."""
        for hook in self.hooks:
            hook.remove()
        del self.layer.rotation

    @torch.no_grad()
    def _observe(self, query: Tensor, keys: Tensor, padding: Tensor | None) -> None:
        if self.layer.training:
            padding = self.padding if padding is None else padding
            self.output = Observation(query.detach(), mean_keys(keys.detach(), self.spans, padding))

    def _turned(self, queries: Tensor) -> Tensor:
        """Return queries ``[B, L, d]`` with the one at ``row`` rotated."""
        before, own, after = queries.tensor_split((self.row, self.row + 1), dim=1)
        return torch.cat((before, self.rotation(own), after), dim=1)


class KnownRotation(QueryRotation):
    """Knows without looking at its tensors whether it has turned, as tracing needs to."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.turned = False
        self.seen: int | None = None
        self.mark: torch.utils.hooks.RemovableHandle | None = None

    def rotate(self, rotation: Any) -> None:
        """Compose one more rotation, as :meth:`QueryRotation.rotate` does."""
        super().rotate(rotation)
        self._note()

    def look_again(self) -> None:
        """Look at the tensors where something else has written to them since.

        An average of weights writes into a copy, and a broadcast into every process's model.
        """
        if torch.compiler.is_compiling() or self.count.is_inference():
            return
        if self.seen != self.count._version:
            with suppress(RuntimeError):  # inside a transform of functions there is none to see
                self._note()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.seen = None

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._note()

    def _note(self) -> None:
        self.turned = bool(self.count > 0)
        self.seen = None if self.count.is_inference() else self.count._version
        # A layer with a hook anywhere in it does not take nn.TransformerEncoderLayer's fast path,
        # which would pass its attention by.
        if self.turned and self.mark is None:
            self.mark = self.register_forward_pre_hook(_as_it_is)
        elif not self.turned and self.mark is not None:
            self.mark.remove()
            self.mark = None


def _as_it_is(module: nn.Module, arguments: tuple) -> None:
    return None
