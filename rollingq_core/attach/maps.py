"""Layers whose queries come from a map that is a module: a fused one, or one of its own."""

from typing import Any

import torch
from torch import Tensor, nn

from rollingq_core.attach.handle import Attached


class AttachedFused(Attached):
    """One map makes queries, keys and values, side by side."""

    def __init__(self, layer: nn.Module, spans: list[tuple[int, int]], row: int) -> None:
        qkv: Any = layer.qkv  # linear, or an adapter around that
        super().__init__(layer, qkv.out_features // 3, spans, row)
        self.hooks.append(qkv.register_forward_hook(self._on_qkv))

    def _on_qkv(self, module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        queries, keys, values = output.chunk(3, dim=-1)
        queries = self._turned(queries)
        self._observe(queries[:, self.row], keys, None)
        return torch.cat((queries, keys, values), dim=-1)


class AttachedSeparate(Attached):
    """Queries, keys and values have a map each."""

    def __init__(self, layer: nn.Module, spans: list[tuple[int, int]], row: int) -> None:
        query: Any = layer.query  # linear, or an adapter around that
        key: Any = layer.key
        super().__init__(layer, query.out_features, spans, row)
        self.query: Tensor | None = None
        self.hooks.append(query.register_forward_hook(self._on_query))
        self.hooks.append(key.register_forward_hook(self._on_key))

    def _on_query(self, module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        queries = self._turned(output)
        self.query = queries[:, self.row].detach()
        return queries

    def _on_key(self, module: nn.Module, arguments: tuple, output: Tensor) -> None:
        if self.query is not None:
            self._observe(self.query, output, None)
