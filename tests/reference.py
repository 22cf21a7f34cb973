"""The oracle: the textbook's full self-attention, and the comparison of a layer with it."""

import torch
from torch import Tensor

from benchmarks.plain import PlainAttentionFusion
from rollingq_core import AttentionFusion


def textbook_twin(layer: AttentionFusion) -> PlainAttentionFusion:
    """The textbook layer with the same weights, rotation and dtype."""
    twin = PlainAttentionFusion(
        layer.dim,
        layer.head.out_features,
        layer.num_heads,
        bias=layer.q_proj.bias is not None,
        output_projection=hasattr(layer.out_proj, "weight"),
        cls_self_key=layer.cls_self_key,
    ).to(layer.cls.dtype)
    own = {name: value for name, value in layer.state_dict().items() if "rotation" not in name}
    twin.load_state_dict({**own, "rotation": layer.rotation.matrix})
    return twin


def gradients(model: torch.nn.Module, tokens: list[Tensor], output) -> dict[str, Tensor]:
    """Gradients of a fixed, generic function of all differentiable outputs."""
    seed = torch.Generator().manual_seed(7)
    loss = sum(
        (value * torch.randn(value.shape, generator=seed, dtype=value.dtype)).sum()
        for value in (output.logits, output.fused, output.attention, output.share)
    )
    sources = dict(model.named_parameters())
    sources |= {f"tokens[{index}]": z for index, z in enumerate(tokens)}
    values = torch.autograd.grad(loss, list(sources.values()), allow_unused=True)
    return {
        name: torch.zeros_like(source) if value is None else value
        for (name, source), value in zip(sources.items(), values, strict=True)
    }


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float((value - reference).detach().norm() / reference.detach().norm())
