"""Linear layers that are more than their weight says: adapted, pruned, quantised, hooked."""

import copy
import warnings

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune


class LowRank(nn.Module):
    """A low-rank adapter around a linear layer, as LoRA has it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 2, bias=False, dtype=base.weight.dtype)
        self.up = nn.Linear(2, base.out_features, bias=False, dtype=base.weight.dtype)

    @property
    def weight(self):
        return self.base.weight

    @property
    def bias(self):
        return self.base.bias

    @property
    def out_features(self):
        return self.base.out_features

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Cubed(nn.Module):
    def forward(self, weight):
        return weight**3


def _subclass(linear):
    linear.__class__ = Doubled
    return linear


def _parametrised(linear):
    return parametrize.register_parametrization(linear, "weight", Cubed())


def _parametrised_bias(linear):
    return parametrize.register_parametrization(linear, "bias", Cubed())


def _pruned(linear):
    return prune.l1_unstructured(linear, "weight", 0.5)


def _old(norm):
    def wrap(linear):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return norm(linear)

    return wrap


def _hooked(linear):
    linear.register_forward_hook(lambda module, inputs, output: 3 * output)
    return linear


def _input_hooked(linear):
    linear.register_forward_pre_hook(lambda module, inputs: (inputs[0].tanh(),))
    return linear


def _own_forward(linear):
    plain = linear.forward
    linear.forward = lambda x: plain(x) + 1
    return linear


def _quantised(linear):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(linear.float())
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)[0]


KINDS = {
    "adapter": LowRank,
    "nonlinear": lambda linear: nn.Sequential(linear, nn.Tanh()),
    "subclass": _subclass,
    "parametrised": _parametrised,
    "parametrised bias": _parametrised_bias,
    "pruned": _pruned,
    "weight norm": parametrizations.weight_norm,
    "old weight norm": _old(nn.utils.weight_norm),
    "spectral norm": parametrizations.spectral_norm,
    "old spectral norm": _old(nn.utils.spectral_norm),
    "hooked": _hooked,
    "input hooked": _input_hooked,
    "own forward": _own_forward,
}


def adapted(kind: str, linear: nn.Linear) -> nn.Module:
    """Return a layer of this kind made from a copy of ``linear``, in evaluation mode."""
    make = _quantised if kind == "quantised" else KINDS[kind]
    module = make(copy.deepcopy(linear)).eval()
    # Weight norm divides by what it multiplies with: so that it is not the identity.
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("_g", "original0")):
                parameter.mul_(1.7)
    return module
