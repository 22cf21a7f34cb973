"""Whether a layer is a plain linear map: only then may its weight be read instead of calling it."""

import gc
from collections.abc import Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn


def is_plain_linear(module: object) -> TypeGuard[nn.Linear]:
    """Whether calling ``module`` is ``x W' + b`` with the ``W`` and ``b`` that it holds.

    False for whatever may do more: a wrapper (an adapter such as LoRA), a subclass, a
    parametrisation (weight or spectral norm of either style, pruning), a hook, a ``forward`` of
    its own, or a weight that is no ordinary tensor (quantised, sharded). Hooks that are registered
    for all modules at once, as profilers do, are not looked at.
    """
    if type(module) is not nn.Linear or "forward" in vars(module):
        return False
    hooks = (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._backward_pre_hooks,
        module._backward_hooks,
    )
    # Older parametrisations take the weight out of the parameters and set it before each call.
    weight, bias = module._parameters.get("weight"), module._parameters.get("bias")
    ordinary = _is_ordinary(weight) and (module.bias is None or _is_ordinary(bias))
    return ordinary and not any(hooks)


def require_own_linear(name: str, module: object, outputs: int) -> nn.Linear:
    """Return ``module`` when it is a plain linear map to ``outputs`` that nothing else uses.

    Other users are looked for among all modules that Python's garbage collector knows.

    Raises
    ------
    ValueError
        It is no plain linear map, has another number of outputs, is registered in more than one
        place, or shares memory with another module.
    """
    if not is_plain_linear(module):
        kind = type(module).__name__
        adapted = " that is adapted, parametrised, pruned or hooked" if kind == "Linear" else ""
        raise ValueError(f"{name}: got a {kind}{adapted}, expected a plain nn.Linear")
    if module.out_features != outputs:
        raise ValueError(f"{name}: got {module.out_features} outputs, expected {outputs}")
    others = [*_other_places(module)]
    if others:
        raise ValueError(
            f"{name}: got one that is in use elsewhere ({', '.join(others)}), expected one of "
            "its own, such as copy.deepcopy makes"
        )
    return module


@torch.no_grad()
def multiply_outputs(linear: nn.Linear, matrix: Tensor) -> None:
    """Change a plain linear map so that its outputs are those before times ``matrix``.

    Raises
    ------
    ValueError
        The product overflows or underflows the weight's dtype, or is not finite; nothing has
        changed then.
    """
    # On the CPU: not every accelerator has float64.
    matrix = matrix.cpu().double()
    # nn.Linear stores the transpose of the row convention's W.
    products = {"weight": matrix.mT @ linear.weight.cpu().double()}
    if linear.bias is not None:
        products["bias"] = linear.bias.cpu().double() @ matrix
    for name, product in products.items():
        dtype = getattr(linear, name).dtype
        error = torch.linalg.vector_norm(product.to(dtype).double() - product)
        if not error <= torch.finfo(dtype).eps * torch.linalg.vector_norm(product):
            raise ValueError(
                f"linear: got a {name} in {dtype}, which can't hold the turned one, "
                "expected a wider dtype"
            )
    for name, product in products.items():
        getattr(linear, name).copy_(product)


def _is_ordinary(tensor: Tensor | None) -> bool:
    known = type(tensor) in (nn.Parameter, Tensor) or torch.compiler.is_compiling()
    return tensor is not None and known and tensor.is_floating_point() and not tensor.is_sparse


def _other_places(linear: nn.Linear) -> Iterator[str]:
    """Yield where else the layer is registered, and which modules hold its memory."""
    gc.collect()  # what is dead but not yet collected uses nothing
    modules = [
        candidate for candidate in gc.get_objects() if issubclass(type(candidate), nn.Module)
    ]
    registered = [
        f"{type(parent).__name__}.{name}"
        for parent in modules
        for name, child in _held(parent, "_modules")
        if child is linear
    ]
    yield from registered if len(registered) > 1 else ()
    own = [_memory(tensor) for tensor in linear.parameters()]
    for module in modules:
        for name, tensor in (*_held(module, "_parameters"), *_held(module, "_buffers")):
            if module is linear or not _is_ordinary(tensor) or tensor.is_meta:
                continue
            device, start, end = _memory(tensor)
            if any(device == d and start < e and s < end for d, s, e in own):
                yield f"{type(module).__name__}.{name}"


def _held(module: nn.Module, kind: str) -> list[tuple[str, Any]]:
    # A module under construction has none yet, and a scripted one keeps its own kind of dict.
    held = vars(module).get(kind)
    return [*held.items()] if isinstance(held, dict) else []


def _memory(tensor: Tensor) -> tuple[torch.device, int, int]:
    start = tensor.data_ptr()
    steps = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.device, start, start + (steps + 1) * tensor.element_size()
