"""The examples in docstrings run, and every public name of the method has one."""

import doctest
import importlib.util
import pkgutil
from pathlib import Path

import pytest
import torch

import rollingq_core
from rollingq_core.data.sources import SOURCES, Source
from rollingq_core.evaluation import EVALUATIONS, Evaluation
from rollingq_core.methods import METHODS, Method
from rollingq_core.reproduce import RECIPES, Recipe
from rollingq_core.training import Observer

MODULES = [one.name for one in pkgutil.walk_packages(rollingq_core.__path__, "rollingq_core.")]
# The core, whose examples stay whatever else has some.
CORE = ["air", "plane", "rotation", "fusion.output", "fusion.attention", "rolling", "_precision"]
CORE += ["attach", "attach.observation", "attach.handle"]
CORE += ["fusion.concat", "balancing.ogm", "balancing.pmr", "training.observer", "methods"]


def source_of(module: str) -> str:
    return Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")


EXAMPLES = [name for name in MODULES if ">>> " in source_of(name)]


def test_the_core_has_examples():
    assert {f"rollingq_core.{name}" for name in CORE} <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_run(name):
    torch.manual_seed(0)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("name", rollingq_core.__all__)
def test_a_public_name_has_an_example(name):
    assert ">>> " in getattr(rollingq_core, name).__doc__


@pytest.mark.parametrize(
    ("table", "kind"),
    [(METHODS, Method), (SOURCES, Source), (EVALUATIONS, Evaluation), (RECIPES, Recipe)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_table_of_one_line_each_holds_one_kind_that_has_an_example(table, kind):
    assert all(type(entry) is kind for entry in table.values())
    assert ">>> " in kind.__doc__


def test_an_observer_of_ones_own_has_an_example():
    assert ">>> " in Observer.__doc__
