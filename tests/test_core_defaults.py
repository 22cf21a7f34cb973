"""Defaults of the method's public names: changing one is a change for users."""

import inspect

import pytest

from rollingq_core import AttentionFusion, QueryRotation, RollingQ, _checks
from rollingq_core.air import Expectation

DEFAULTS = {
    AttentionFusion: {
        "num_heads": 1,
        "cls_std": 0.02,
        "bias": True,
        "output_projection": True,
        "cls_self_key": False,
        "attention_dropout": 0.0,
        "output_dropout": 0.0,
        "mode": "softmax",
    },
    AttentionFusion.forward: {"key_padding_masks": None},
    RollingQ: {
        "start_epoch": 0,
        "spacing": 1,
        "estimate": "epoch",
        "rotation": "minimal",
        "schedule": None,
        "seed": 0,
    },
    RollingQ.observe: {"output": None, "query": None, "mean_keys": None, "training": True},
    QueryRotation: {},
    Expectation: {"query_norm": None},
    _checks.require_tensor: {"like": None, "finite": True},
}


@pytest.mark.parametrize("name", DEFAULTS, ids=lambda name: name.__qualname__)
def test_the_defaults(name):
    found = {
        key: parameter.default
        for key, parameter in inspect.signature(name).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert found == DEFAULTS[name]


def test_the_layer_acts_by_its_defaults():
    layer = AttentionFusion(8, 4)
    assert layer.q_proj.bias is not None
    assert layer.out_proj.weight.shape == (8, 8)
    assert (layer.num_heads, layer.mode, layer.cls_self_key) == (1, "softmax", False)
    assert layer.attention_dropout == layer.output_dropout.p == 0
