"""Folding R into the query's layer keeps every output, or refuses and changes nothing."""

import copy
import gc

import pytest
import torch
from torch import nn

from rollingq_core import AttentionFusion, QueryRotation, minimal_rotation
from tests.adapted import KINDS, adapted


@pytest.fixture(scope="module", autouse=True)
def _a_small_heap():
    """Set aside what other test files have left alive, or each test would look through it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def turned(dim=6, dtype=torch.float64, seed=0) -> QueryRotation:
    torch.manual_seed(seed)
    rotation = QueryRotation(dim).to(dtype)
    rotation.rotate(minimal_rotation(*torch.randn(2, dim).double()))
    return rotation


def assert_refused(rotation, linear, *others):
    """The layer is refused, and neither R nor an output of it or the others has changed."""
    modules = [rotation, linear, *others]
    before = [copy.deepcopy(module.state_dict()) for module in modules]
    with pytest.raises(ValueError, match=r"^linear: got .*expected"):
        rotation.fold_into(linear)
    for module, state in zip(modules, before, strict=True):
        for name, value in module.state_dict().items():
            same = torch.equal(value, state[name]) if isinstance(value, torch.Tensor) else True
            assert same, name
    assert not torch.equal(rotation.matrix, torch.eye(rotation.dim).to(rotation.matrix))


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_is_more_than_its_weight_is_refused(kind):
    assert_refused(turned(), adapted(kind, nn.Linear(3, 6).double()))


def test_a_quantised_layer_is_refused():
    with pytest.raises(ValueError, match=r"^linear: got a Linear.*expected a plain nn.Linear"):
        turned().fold_into(adapted("quantised", nn.Linear(3, 6)))


@pytest.mark.parametrize("module", [nn.Identity(), nn.Conv1d(3, 6, 1), None, nn.Parameter()])
def test_what_is_no_linear_layer_is_refused(module):
    with pytest.raises(ValueError, match=r"^linear: got a \w+, expected a plain nn.Linear"):
        turned().fold_into(module)


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("place", ["k_proj", "v_proj", "out_proj"])
def test_a_tied_parameter_is_refused(place, name):
    layer = AttentionFusion(6, 2)
    layer.rotation.rotate(minimal_rotation(*torch.randn(2, 6)))
    setattr(getattr(layer, place), name, getattr(layer.q_proj, name))
    assert_refused(layer.rotation, layer.q_proj, layer)


def test_a_layer_with_two_uses_is_refused():
    layer = AttentionFusion(6, 2)
    layer.rotation.rotate(minimal_rotation(*torch.randn(2, 6)))
    layer.k_proj = layer.q_proj
    assert_refused(layer.rotation, layer.q_proj, layer)


def test_memory_that_another_layer_sees_is_refused():
    fused = nn.Linear(3, 18).double()
    query = nn.Linear(3, 6).double()
    query.weight.data = fused.weight.data[:6]
    assert_refused(turned(), query, fused)
    # The rows beside it are another's: nothing is shared.
    beside = nn.Linear(3, 6).double()
    beside.weight.data = torch.empty(12, 3).double()[6:]
    nn.Module().register_parameter("other", beside.weight)
    turned().fold_into(beside)


def test_a_copy_of_a_tied_layer_is_taken():
    layer = AttentionFusion(6, 2).double()
    layer.rotation.rotate(minimal_rotation(*torch.randn(2, 6).double()))
    layer.k_proj = layer.q_proj
    tokens = list(torch.randn(2, 3, 4, 6).double())
    before = layer(tokens)
    layer.q_proj = copy.deepcopy(layer.q_proj)
    layer.rotation.fold_into(layer.q_proj)
    for value, reference in zip(layer(tokens), before, strict=True):
        torch.testing.assert_close(value, reference)


def test_what_was_tied_once_and_is_gone_does_not_matter():
    linear = nn.Linear(3, 6).double()
    other = nn.Linear(3, 6)
    other.weight = linear.weight
    other.myself = [other]  # only the garbage collector can take it away
    del other
    turned().fold_into(linear)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_any_precision_is_rounded_once(dtype, autocast, inference, frozen):
    rotation = turned(32, dtype)
    linear = nn.Linear(8, 32).to(dtype).requires_grad_(not frozen)
    exact, rows = copy.deepcopy(linear).double(), torch.randn(5, 8).double()
    expected = exact(rows) @ rotation.matrix.double()
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        torch.inference_mode(inference),
    ):
        assert rotation.fold_into(linear) is linear
    assert linear.weight.dtype == dtype
    assert linear.weight.requires_grad is not frozen
    found = copy.deepcopy(linear).double()(rows)
    assert (found - expected).norm() <= 16 * torch.finfo(dtype).eps * expected.norm()
    assert torch.equal(rotation.matrix, torch.eye(32).to(rotation.matrix))
    assert rotation.count == 1
    if not frozen:
        linear(rows.to(dtype)).sum().backward()


@pytest.mark.parametrize("value", [6e4, 1e-7])
def test_a_dtype_that_cannot_hold_the_product_is_refused(value):
    rotation, linear = QueryRotation(2), nn.Linear(2, 2, bias=False).half()
    rotation.rotate(minimal_rotation(torch.tensor([1.0, 0]), torch.tensor([1.0, 1])))
    nn.init.constant_(linear.weight, value)
    assert_refused(rotation, linear)


def test_a_weight_that_is_not_finite_is_refused():
    linear = nn.Linear(3, 6).double()
    with torch.no_grad():
        linear.weight[0, 0] = torch.inf
    assert_refused(turned(), linear)


@pytest.mark.parametrize("bias", [True, False])
def test_a_view_of_a_column_major_weight(bias):
    rotation, linear = turned(), nn.Linear(3, 6, bias=bias).double()
    linear.weight.data = torch.randn(3, 6).double().T
    rows = torch.randn(5, 3).double()
    before = rotation(linear(rows))
    rotation.fold_into(linear)
    torch.testing.assert_close(linear(rows), before)
