"""RollingQ on an attention layer that exists already, without changing its class's code."""

from torch import nn

from rollingq_core._checks import require_integer
from rollingq_core.attach.handle import Attached
from rollingq_core.attach.maps import AttachedFused, AttachedSeparate
from rollingq_core.attach.multihead import AttachedMultihead
from rollingq_core.attach.observation import Observation, Spans, mean_keys, ranges
from rollingq_core.rotation import QueryRotation

__all__ = ["Attached", "Observation", "attach", "mean_keys"]


def attach(attention: nn.Module, spans: Spans, *, row: int = 0) -> "Attached":
    """Put a query rotation into an attention layer, for the query at place ``row``.

    Until the first turn the layer's outputs are what they were, bit for bit. R and the schedule
    are saved with the layer, as its ``rotation``.

    Parameters
    ----------
    attention
        An ``nn.MultiheadAttention``, an ``nn.TransformerEncoderLayer`` (whole, not its
        ``self_attn`` alone, so that its fast path never passes a turn by), timm's
        ``Attention`` (one ``qkv`` map), or a BERT-style self-attention (``query``, ``key`` and
        ``value`` maps). An adapter around a map (LoRA) has to be there before: one that comes
        later adds to the query what no rotation turns.
    spans
        Which of the keys' places belong to which modality: ``(start, stop)`` each, two or more.
    row
        Place of the class token among the queries.

    Returns
    -------
    Attached
        Its ``rotation`` is for :class:`RollingQ`, its ``output`` for :meth:`RollingQ.observe`.

    Raises
    ------
    ValueError
        A layer of another kind, one that normalises queries after their map (a rotation would be
        undone or bent by it), one that has a rotation already, or spans that are no ranges.

    Examples
    --------
    >>> import torch
    >>> from rollingq_core import RollingQ
    >>> layer = nn.MultiheadAttention(8, 1, batch_first=True)
    >>> handle = attach(layer, {"audio": (1, 5), "visual": (5, 8)})
    >>> rolling = RollingQ(handle, rho=3, beta=0.05, max_rotations=3)
    >>> tokens = torch.randn(2, 8, 8)
    >>> _ = layer(tokens, tokens, tokens)
    >>> rolling.observe(handle.output)
    """
    spans = ranges(spans)
    require_integer("row", row, at_least=0)
    layer = attention.self_attn if isinstance(attention, nn.TransformerEncoderLayer) else attention
    if isinstance(getattr(layer, "rotation", None), QueryRotation):
        raise ValueError("attention: got a layer that has a rotation, expected one without")
    if type(layer) is nn.MultiheadAttention:
        return AttachedMultihead(layer, spans, row, None if layer is attention else attention)
    if _are_maps(layer, "qkv", "proj"):
        _refuse_normalised(layer)
        return AttachedFused(layer, spans, row)
    if _are_maps(layer, "query", "key", "value"):
        _refuse_normalised(layer)
        return AttachedSeparate(layer, spans, row)
    raise ValueError(
        f"attention: got {type(attention).__name__}, expected nn.MultiheadAttention, "
        "nn.TransformerEncoderLayer, an attention with a fused qkv map as timm's, or one with "
        "query, key and value maps as BERT's"
    )


def _are_maps(layer: nn.Module, *names: str) -> bool:
    """Tell whether these are maps, each linear or with an adapter, which tells its size too."""
    maps = [getattr(layer, name, None) for name in names]
    return all(isinstance(getattr(m, "out_features", None), int) for m in maps)


def _refuse_normalised(layer: nn.Module) -> None:
    for name in ("q_norm", "k_norm", "query_norm", "q_layernorm"):
        norm = getattr(layer, name, None)
        if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
            raise ValueError(
                f"attention: got one with {name} (qk_norm), expected none: it normalises queries "
                "head by head after their map, where a rotation across heads no longer holds"
            )
