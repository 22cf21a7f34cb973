"""The examples in the core's docstrings run, and every public name of the method has one."""

import doctest
import importlib

import pytest
import torch

import rollingq_core

CORE = ["air", "plane", "rotation", "fusion.output", "fusion.attention", "rolling", "_precision"]
CORE += ["attach", "attach.observation", "attach.handle"]


@pytest.mark.parametrize("name", CORE)
def test_the_examples_run(name):
    torch.manual_seed(0)
    module = importlib.import_module(f"rollingq_core.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("name", rollingq_core.__all__)
def test_a_public_name_has_an_example(name):
    assert ">>> " in getattr(rollingq_core, name).__doc__
