"""Layers whose queries come from a map that is a module: a fused one, or one of its own."""

import torch
from torch import Tensor, nn

from rollingq_core.attach.handle import Attached


class AttachedFused(Attached):
    """One map makes queries, keys and values, side by side."""

    def __init__(self, layer: nn.Module, spans: list[tuple[int, int]], row: int) -> None:
        super().__init__(layer, layer.qkv.out_features // 3, spans, row)
        self.hooks.append(layer.qkv.register_forward_hook(self._on_qkv))

    def _on_qkv(self, module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        queries, keys, values = output.chunk(3, dim=-1)
        queries = self._turned(queries)
        self._observe(queries[:, self.row], keys, None)
        return torch.cat((queries, keys, values), dim=-1)


class AttachedSeparate(Attached):
    """Queries, keys and values have a map each."""

    def __init__(self, layer: nn.Module, spans: list[tuple[int, int]], row: int) -> None:
        super().__init__(layer, layer.query.out_features, spans, row)
        self.query: Tensor | None = None
        self.hooks.append(layer.query.register_forward_hook(self._on_query))
        self.hooks.append(layer.key.register_forward_hook(self._on_key))

    def _on_query(self, module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        queries = self._turned(output)
        self.query = queries[:, self.row].detach()
        return queries

    def _on_key(self, module: nn.Module, arguments: tuple, output: Tensor) -> None:
        if self.query is not None:
            self._observe(self.query, output, None)
