"""The two paths on which a token gets its gradient: through its value, and through its key."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from rollingq_core._checks import require_tensor
from rollingq_core._padding import separated
from rollingq_core._tensors import require_labels
from rollingq_core.fusion.attention import AttentionFusion
from rollingq_core.models.multimodal import MultimodalModel


class GradientPaths(NamedTuple):
    """Parts of the gradient of the loss with respect to tokens, ``[B, L, d]`` each.

    ``value`` flows through the tokens' values with attention held still, ``key`` through attention
    with the values held still. Their sum is the whole gradient.
    """

    value: Tensor
    key: Tensor


def gradient_paths(
    upstream: Tensor, tokens: Tensor, query: Tensor, key_map: Tensor, value_map: Tensor
) -> GradientPaths:
    r"""Return the gradient with respect to each token, split into its two paths.

    .. math:: \frac{\partial \mathcal L}{\partial z_j} = p_j\, g W_V^\top
        + \frac{p_j}{\sqrt d}\, \big(g \cdot (v_j - h)\big)\, q W_K^\top,
        \qquad p = \mathrm{softmax}(q K^\top / \sqrt d)

    Parameters
    ----------
    upstream
        g, the gradient of the loss with respect to h, ``[B, d]``.
    tokens
        z, the tokens of all modalities in one sequence, ``[B, L, d]``.
    query
        q, ``[d]``.
    key_map, value_map
        W_K and W_V, ``[d, d]``, as in K = z W_K: a row is multiplied from the left. Biases
        drop out.

    Raises
    ------
    ValueError
        Shapes that do not fit, or values that are not finite.
    """
    require_tensor("tokens", tokens, ("B", "L", "d"))
    require_tensor("upstream", upstream, ("B", "d"), like=tokens[:, 0])
    require_tensor("query", query, ("d",), like=tokens)
    for name, matrix in (("key_map", key_map), ("value_map", value_map)):
        require_tensor(name, matrix, ("d", "d"))
        if matrix.shape[0] != matrix.shape[1] or matrix.shape[0] != tokens.shape[-1]:
            raise ValueError(
                f"{name}: got shape {list(matrix.shape)}, expected d = {tokens.shape[-1]} twice"
            )
    toward_key = query @ key_map.mT / math.sqrt(tokens.shape[-1])
    attention = (tokens @ toward_key).softmax(dim=-1).unsqueeze(-1)
    toward_value = (upstream @ value_map.mT).unsqueeze(1)
    # g·v_j for each token, and its attention-weighted mean g·h.
    worth = (tokens * toward_value).sum(-1, keepdim=True)
    mean = (attention * worth).sum(1, keepdim=True)
    return GradientPaths(attention * toward_value, attention * (worth - mean) * toward_key)


class PathSizes(NamedTuple):
    """How much gradient the tokens of each modality get, ``[M]`` each.

    ``share`` is the attention share; ``value``, ``key`` and ``total`` are gradient norms, summed
    over a modality's tokens. All are means over samples.
    """

    share: Tensor
    value: Tensor
    key: Tensor
    total: Tensor


def path_sizes(model: MultimodalModel, inputs: dict[str, Tensor], labels: Tensor) -> PathSizes:
    """Return the sizes of both paths in a model, for the cross-entropy of single samples.

    Parameters
    ----------
    model
        A model whose fusion has one softmax head and no class-token key. It is left as it was.
    inputs
        Inputs of one batch, by modality.
    labels
        Their classes, ``[B]``.

    Raises
    ------
    ValueError
        The fusion is static, or has several heads, uniform attention, or the class token among its
        keys; there is padding; or labels are none of the classes.
    """
    layer = model.fusion
    if not isinstance(layer, AttentionFusion):
        raise ValueError(f"model: got {type(layer).__name__}, expected one with attention")
    _, padding = separated(inputs)
    if padding:
        raise ValueError(f"inputs: got padding of {[*padding]}, expected none")
    require_labels("labels", labels, model.num_classes)
    if layer.num_heads != 1 or layer.mode != "softmax" or layer.cls_self_key:
        raise ValueError(
            f"model: got a fusion with num_heads={layer.num_heads}, mode={layer.mode!r}, "
            f"cls_self_key={layer.cls_self_key}, expected 1, 'softmax', False"
        )
    training = model.training
    model.eval()
    tokens = [encoder(inputs[name]).detach() for name, encoder in model.encoders.items()]
    output = layer(tokens)
    loss = nn.functional.cross_entropy(output.logits, labels, reduction="sum")
    (upstream,) = torch.autograd.grad(loss, output.fused)
    model.train(training)
    with torch.no_grad():
        upstream = upstream @ _map(layer.out_proj, tokens[0]).T
        key_map, value_map = (_map(layer, tokens[0]) for layer in (layer.k_proj, layer.v_proj))
        paths = gradient_paths(upstream, torch.cat(tokens, 1), output.query[0], key_map, value_map)

        def size(gradient: Tensor) -> Tensor:
            norms = gradient.norm(dim=-1).split([z.shape[1] for z in tokens], dim=1)
            return torch.stack([own.sum(1).mean() for own in norms])

        return PathSizes(
            output.share.mean(0), size(paths.value), size(paths.key), size(paths.value + paths.key)
        )


def _map(module: nn.Module, tokens: Tensor) -> Tensor:
    """Return the matrix W of an affine map ``z W + b``, whatever the module is made of."""
    return jacobian(module, tokens[0, 0]).T
