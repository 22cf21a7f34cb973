"""Arguments are what they say: integers are integers, numbers are numbers."""

import math

import numpy as np
import pytest
import torch

from rollingq_core import AttentionFusion, QueryRotation, RollingQ
from rollingq_core._checks import require_integer, require_number

NO_INTEGERS = [8.0, 2.7, 1.5, np.float64(8), np.float32(2), True, np.True_, "8", None, math.nan]
NO_INTEGERS += [math.inf, 8 + 0j, torch.tensor(8), [8]]


def rolling(**options) -> RollingQ:
    return RollingQ(QueryRotation(4), **{"rho": 1.0, "beta": 0.1, "max_rotations": 1, **options})


@pytest.mark.parametrize("value", [8, np.int64(8), np.int8(8), np.uint16(8)])
def test_an_integer_is_one_of_pythons_or_numpys(value):
    found = require_integer("dim", value, at_least=8, at_most=8)
    assert found == 8
    assert type(found) is int


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
def test_what_is_no_integer_is_refused_and_not_cut(value):
    with pytest.raises(ValueError, match=r"^dim: got .*, expected an integer of at least 2$"):
        require_integer("dim", value, at_least=2)


@pytest.mark.parametrize("value", [1, 9])
def test_an_integer_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=rf"^dim: got {value}, .* at least 2 and at most 8$"):
        require_integer("dim", value, at_least=2, at_most=8)


@pytest.mark.parametrize("bad", [2.0, 2.7, True, "2", None, np.float64(2)], ids=repr)
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (QueryRotation, "dim"),
        (lambda bad: AttentionFusion(bad, 2), "dim"),
        (lambda bad: AttentionFusion(8, bad), "num_classes"),
        (lambda bad: AttentionFusion(8, 2, bad), "num_heads"),
        (lambda bad: rolling(max_rotations=bad), "max_rotations"),
        (lambda bad: rolling(start_epoch=bad), "start_epoch"),
        (lambda bad: rolling(spacing=bad), "spacing"),
        (lambda bad: rolling(seed=bad), "seed"),
    ],
)
def test_every_integer_of_the_method_is_one(call, name, bad):
    with pytest.raises(ValueError, match=rf"^{name}: got .*, expected an integer"):
        call(bad)


def test_numpys_integers_are_taken_everywhere():
    two = np.int64(2)
    layer = AttentionFusion(np.int32(8), two, two)
    assert type(layer.dim) is type(layer.num_heads) is type(layer.rotation.dim) is int
    observer = rolling(max_rotations=two, start_epoch=two, spacing=two, seed=two)
    assert observer.max_rotations == observer.start_epoch == observer.spacing == 2


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_a_seed_is_any_that_torch_takes(seed):
    assert rolling(seed=seed).generator.initial_seed() % 2**64 == seed


@pytest.mark.parametrize("bad", ["1.5", True, None, 10**400, 1j], ids=lambda bad: str(bad)[:8])
def test_what_only_reads_like_a_number_is_refused(bad):
    with pytest.raises(ValueError, match=r"^rho: got .*, expected a finite number above 0"):
        require_number("rho", bad, above=0)


@pytest.mark.parametrize("good", [1, 1.5, np.float32(1.5), torch.tensor(1.5), np.int64(1)])
def test_a_number_is_of_any_library(good):
    assert require_number("rho", good, above=0) == float(good)
