"""Where the query should point, and the turn that takes it there."""

import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rollingq_core import (
    QueryRotation,
    anchor_weight,
    minimal_rotation,
    rebalance_anchor,
    svd_rotation,
)
from rollingq_core.rotation import PlaneRotation, anchor_weights, plane_rotation

steady = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 2**31 - 1)
dims = st.integers(2, 24)
scales = st.floats(-30, 30).map(lambda exponent: 10.0**exponent)
small_angles = st.floats(-9, -3).map(lambda exponent: 10.0**exponent)
ROUTES = [minimal_rotation, svd_rotation]


def draw(seed: int, *shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit(vector: torch.Tensor) -> torch.Tensor:
    vector = vector.double()
    vector = vector / vector.abs().max()
    return vector / vector.norm()


def pair_at(angle: float, seed: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two unit vectors that far apart, built without a difference of close numbers."""
    u, p = torch.linalg.qr(draw(seed, dim, 2)).Q.T
    return u, math.cos(angle) * u + math.sin(angle) * p


def assert_rotation(matrix: torch.Tensor, tolerance: float) -> None:
    wide = matrix.double()
    assert (wide @ wide.T - torch.eye(len(wide), dtype=wide.dtype)).abs().max() < tolerance
    sign, log = torch.linalg.slogdet(wide)
    assert sign == 1
    assert abs(float(log)) < tolerance * len(wide)


def assert_turns(matrix, source, target, tolerance: float) -> None:
    assert_rotation(matrix, tolerance)
    assert (unit(source) @ matrix.double() - unit(target)).abs().max() < tolerance


@pytest.mark.parametrize("route", ROUTES)
@steady
@given(seed=seeds, dim=dims, source_scale=scales, target_scale=scales)
def test_a_rotation_that_hits_the_target(route, seed, dim, source_scale, target_scale):
    source, target = draw(seed, 2, dim)
    source, target = source * source_scale, target * target_scale
    matrix = route(source, target)
    assert_turns(matrix, source, target, 1e-12)
    length = (source @ matrix).norm() / source.norm()
    assert float(length) == pytest.approx(1, abs=1e-12)


@steady
@given(seed=seeds, dim=st.integers(3, 24))
def test_the_smallest_turn_is_the_identity_off_its_plane(seed, dim):
    source, target, other = draw(seed, 3, dim)
    plane = torch.linalg.qr(torch.stack((source, target), 1)).Q
    off = other - plane @ (plane.T @ other)
    torch.testing.assert_close(off @ minimal_rotation(source, target), off, atol=1e-12, rtol=0)


@steady
@given(seed=seeds, dim=dims)
def test_the_smallest_turn_is_the_closed_form(seed, dim):
    u, w = (unit(row) for row in draw(seed, 2, dim))
    if u @ w < -0.999:
        return
    skew = torch.outer(u, w) - torch.outer(w, u)
    closed = torch.eye(dim, dtype=u.dtype) + skew + skew @ skew / (1 + u @ w)
    torch.testing.assert_close(minimal_rotation(u, w), closed, atol=1e-11, rtol=0)


@pytest.mark.parametrize("route", ROUTES)
@steady
@given(seed=seeds, dim=dims, angle=small_angles)
def test_nearly_parallel(route, seed, dim, angle):
    source, target = pair_at(angle, seed, dim)
    assert_turns(route(source, target), source, target, 1e-12)
    # The component across the source tells such a small turn from none at all.
    measured = plane_rotation(source, target).angle
    assert measured == pytest.approx(angle, rel=1e-6)


@pytest.mark.parametrize("route", ROUTES)
@steady
@given(seed=seeds, dim=dims, angle=st.one_of(st.just(0.0), small_angles))
def test_nearly_antiparallel(route, seed, dim, angle):
    source, target = pair_at(math.pi - angle, seed, dim)
    assert_turns(route(source, target), source, target, 1e-12)
    assert plane_rotation(source, target).angle == pytest.approx(math.pi - angle, abs=1e-8)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("dim", [2, 3, 768])
@pytest.mark.parametrize("factor", [-1.0, -3.7, -1e20])
def test_exactly_antiparallel_is_a_turn_by_pi(route, dim, factor):
    source = draw(0, dim)
    assert_turns(route(source, factor * source), source, factor * source, 1e-12)
    assert plane_rotation(source, factor * source).angle == pytest.approx(math.pi)


def test_parallel_is_the_identity():
    source = draw(0, 6)
    torch.testing.assert_close(
        minimal_rotation(source, 5 * source), torch.eye(6).double(), atol=1e-12, rtol=0
    )
    assert plane_rotation(source, source).angle == 0


@pytest.mark.parametrize(("seed", "scale"), [(0, 1.0), (1, 1.0), (2, 1e-38), (3, 1e37)])
@pytest.mark.parametrize("route", ROUTES)
def test_float32_at_full_size(route, seed, scale):
    source, target = draw(seed, 2, 768, dtype=torch.float32)
    matrix = route(source * scale, target)
    assert matrix.dtype == torch.float32
    assert_turns(matrix, source * scale, target, 1e-5)


@pytest.mark.parametrize("route", ROUTES)
def test_finite_values_whose_sum_is_not(route):
    source = torch.full((8,), 3e38)
    assert source.sum() == math.inf
    assert_turns(route(source, torch.arange(8.0)), source, torch.arange(8.0), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    query, key_a, key_v = draw(0, 3, 5, dtype=dtype)
    assert minimal_rotation(query, key_a).dtype == dtype
    assert svd_rotation(query, key_a).dtype == dtype
    assert rebalance_anchor(query, key_a, key_v, 0.3).dtype == dtype
    assert anchor_weight(query, 1.0).dtype == dtype
    assert isinstance(anchor_weight(0.3, 1.0), float)


@steady
@given(seed=seeds, dim=dims)
def test_a_plane_rotation_is_its_matrix(seed, dim):
    source, target, *rows = draw(seed, 5, dim)
    turn, rows = plane_rotation(source, target), torch.stack(rows)
    assert torch.equal(turn.matrix(), minimal_rotation(source, target))
    torch.testing.assert_close(turn.apply(rows), rows @ turn.matrix())
    assert turn.apply(rows.float()).dtype == torch.float32
    cosine = float(unit(source) @ unit(target))
    assert turn.angle == pytest.approx(math.acos(max(-1.0, min(1.0, cosine))), abs=1e-6)


@steady
@given(seed=seeds, angle=st.floats(-math.pi, math.pi))
def test_a_turn_by_an_angle(seed, angle):
    u, p = torch.linalg.qr(draw(seed, 5, 2)).Q.T
    turn = PlaneRotation.by_angle(u, p, angle)
    assert turn.angle == pytest.approx(abs(angle), abs=1e-12)
    torch.testing.assert_close(turn.apply(u), math.cos(angle) * u + math.sin(angle) * p)
    assert_rotation(turn.matrix(), 1e-12)


@steady
@given(seed=seeds, dim=dims)
def test_rotating_twice_is_the_product(seed, dim):
    a, b, c, query = draw(seed, 4, dim)
    first, second = minimal_rotation(a, b), minimal_rotation(b, c)
    by_matrix, by_plane = QueryRotation(dim).double(), QueryRotation(dim).double()
    by_matrix.rotate(first)
    by_matrix.rotate(second)
    by_plane.rotate(plane_rotation(a, b))
    by_plane.rotate(plane_rotation(b, c))
    for rotation in (by_matrix, by_plane):
        assert rotation.count == 2
        torch.testing.assert_close(rotation(query), query @ first @ second)
        torch.testing.assert_close(rotation.matrix, first @ second)
        # The order matters: only so does the first source end at the last target.
        torch.testing.assert_close(unit(rotation(a)), unit(c))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_identity_keeps_every_bit(dtype, autocast):
    query = draw(0, 4, 3, 65).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        turned = QueryRotation(65)(query)
    assert turned.dtype == dtype
    assert torch.equal(turned, query)


def test_gradients_go_back_through_the_rotation():
    rotation = QueryRotation(4).double()
    rotation.rotate(minimal_rotation(*draw(0, 2, 4)))
    query = draw(1, 4).requires_grad_()
    weights = draw(2, 4)
    rotation(query).backward(weights)
    torch.testing.assert_close(query.grad, rotation.matrix @ weights)
    assert list(rotation.parameters()) == []


def test_saving_and_loading_the_rotation():
    rotation = QueryRotation(4)
    rotation.rotate(minimal_rotation(*draw(0, 2, 4)))
    buffer = io.BytesIO()
    torch.save(rotation.state_dict(), buffer)
    buffer.seek(0)
    fresh = QueryRotation(4)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(fresh.matrix, rotation.matrix)
    assert fresh.count == 1


@pytest.mark.parametrize("bias", [True, False])
def test_folding_into_a_linear_layer(bias):
    rotation, linear, rows = QueryRotation(6).double(), nn.Linear(3, 6, bias=bias), draw(1, 5, 3)
    linear = linear.double()
    rotation.rotate(minimal_rotation(*draw(0, 2, 6)))
    before = rotation(linear(rows))
    assert rotation.fold_into(linear) is linear
    torch.testing.assert_close(linear(rows), before)
    assert torch.equal(rotation.matrix, torch.eye(6, dtype=torch.float64))
    assert rotation.count == 1


# The anchor.


@steady
@given(air=st.floats(-2, 2), rho=st.floats(0.01, 50))
def test_anchor_weight_is_symmetric_and_falls_with_the_imbalance(air, rho):
    alpha = anchor_weight(air, rho)
    assert 0 <= alpha <= 1
    assert alpha + anchor_weight(-air, rho) == pytest.approx(1, abs=1e-12)
    assert anchor_weight(air + 0.1, rho) <= alpha
    assert float(anchor_weight(torch.tensor(air, dtype=torch.float64), rho)) == pytest.approx(
        alpha, abs=1e-12
    )
    if air > 0:
        assert anchor_weight(air, 2 * rho) <= alpha


def test_anchor_weight_has_its_limits():
    assert anchor_weight(0.0, 3.0) == 0.5
    assert anchor_weight(0.1, 1e4) == 0
    assert anchor_weight(-0.1, 1e4) == 1
    assert anchor_weight(1.0, 1e-9) == pytest.approx(0.5)
    assert anchor_weight(1.0, 1.0) == pytest.approx(0.5 * (1 + math.tanh(-1)))


@steady
@given(seed=seeds, rho=st.floats(0.01, 20), count=st.integers(2, 5))
def test_anchor_weights_are_those_of_two(seed, rho, count):
    cosines = torch.tanh(draw(seed, count))
    weights = anchor_weights(cosines, rho)
    assert float(weights.sum()) == pytest.approx(1)
    # Any two of many share their mass as two alone would.
    air = float(cosines[0] - cosines[1])
    pair = weights[:2] / weights[:2].sum()
    assert float(pair[0]) == pytest.approx(anchor_weight(air, rho), abs=1e-9)
    if count == 2:
        assert float(weights[0]) == pytest.approx(anchor_weight(air, rho), abs=1e-12)


@steady
@given(seed=seeds, dim=dims, alpha=st.floats(0, 1), scale=scales, key_scale=scales)
def test_the_anchor_is_as_long_as_the_query(seed, dim, alpha, scale, key_scale):
    query, key_a, key_v = draw(seed, 3, dim)
    anchor = rebalance_anchor(scale * query, key_scale * key_a, key_v, alpha)
    assert float(anchor.norm() / (scale * query).norm()) == pytest.approx(1, abs=1e-12)
    mixed = alpha * unit(key_a) + (1 - alpha) * unit(key_v)
    torch.testing.assert_close(unit(anchor), unit(mixed), atol=1e-9, rtol=0)


@pytest.mark.parametrize("scale", [1e-37, 1e37])
def test_the_anchor_keeps_extreme_norms_in_float32(scale):
    query, key_a, key_v = draw(0, 3, 8, dtype=torch.float32)
    anchor = rebalance_anchor(query * scale, key_a, key_v, 0.3).double()
    assert float(anchor.norm() / (query * scale).double().norm()) == pytest.approx(1, abs=1e-5)


def test_a_weight_of_one_or_nought_is_one_key():
    query, key_a, key_v = draw(0, 3, 5)
    torch.testing.assert_close(unit(rebalance_anchor(query, key_a, key_v, 1)), unit(key_a))
    torch.testing.assert_close(unit(rebalance_anchor(query, key_a, key_v, 0.0)), unit(key_v))
    middle = rebalance_anchor(query, key_a, key_v, torch.tensor(0.5))
    torch.testing.assert_close(unit(middle), unit(unit(key_a) + unit(key_v)))


def test_the_toy_anchor_and_rotation():
    query = torch.tensor([2.0, 0, 0, 0], dtype=torch.float64)
    key_a = torch.tensor([2.0, 1, 0, 0], dtype=torch.float64)
    key_v = torch.tensor([-0.5, 1, 1, 0], dtype=torch.float64)
    alpha = anchor_weight(1.1831023, 1.0)
    assert alpha == pytest.approx(0.0857863, abs=1e-5)
    anchor = rebalance_anchor(query, key_a, key_v, alpha)
    assert anchor.tolist() == pytest.approx([-0.496626, 1.411064, 1.327502, 0], abs=1e-5)
    matrix = minimal_rotation(query, anchor)
    expected = [
        [-0.248313, 0.705532, 0.663751, 0],
        [-0.705532, 0.337789, -0.622995, 0],
        [-0.663751, -0.622995, 0.413898, 0],
        [0, 0, 0, 1],
    ]
    for row, reference in zip(matrix.tolist(), expected, strict=True):
        assert row == pytest.approx(reference, abs=1e-5)
    assert_rotation(matrix, 1e-12)


# Errors.

ONE, TWO = torch.ones(4), torch.tensor([1.0, 2, 3, 4])
BAD_VECTORS = [
    [1.0, 2.0, 3.0, 4.0],
    torch.ones(4, dtype=torch.int64),
    torch.ones(1, 4),
    torch.ones(0),
    torch.zeros(4),
    torch.tensor([1.0, math.nan, 0, 0]),
    torch.tensor([1.0, math.inf, 0, 0]),
]


@pytest.mark.parametrize("bad", BAD_VECTORS, ids=lambda bad: str(bad)[:24])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda bad: minimal_rotation(bad, TWO), "source"),
        (lambda bad: minimal_rotation(TWO, bad), "target"),
        (lambda bad: svd_rotation(bad, TWO), "source"),
        (lambda bad: svd_rotation(TWO, bad), "target"),
        (lambda bad: rebalance_anchor(bad, ONE, TWO, 0.5), "query"),
        (lambda bad: rebalance_anchor(ONE, bad, TWO, 0.5), "key_a"),
        (lambda bad: rebalance_anchor(ONE, TWO, bad, 0.5), "key_v"),
    ],
)
def test_a_bad_vector_is_named(call, name, bad):
    with pytest.raises(ValueError, match=rf"^{name}: got .*expected"):
        call(bad)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: minimal_rotation(ONE, torch.ones(5)), "target"),
        (lambda: minimal_rotation(torch.ones(1), torch.ones(1)), "source"),
        (lambda: rebalance_anchor(ONE, torch.ones(5), TWO, 0.5), "key_a"),
        (lambda: rebalance_anchor(ONE, TWO, torch.ones(5), 0.5), "key_v"),
        (lambda: rebalance_anchor(ONE, TWO, ONE, -0.1), "alpha"),
        (lambda: rebalance_anchor(ONE, TWO, ONE, 1.1), "alpha"),
        (lambda: rebalance_anchor(ONE, TWO, ONE, math.nan), "alpha"),
        (lambda: rebalance_anchor(ONE, TWO, ONE, ONE), "alpha"),
        (lambda: anchor_weight(0.1, 0.0), "rho"),
        (lambda: anchor_weight(0.1, -1.0), "rho"),
        (lambda: anchor_weight(0.1, math.inf), "rho"),
        (lambda: anchor_weight(0.1, None), "rho"),
        (lambda: anchor_weight(math.nan, 1.0), "air"),
        (lambda: anchor_weight(torch.tensor([0.1, math.nan]), 1.0), "air"),
        (lambda: anchor_weights(ONE, 0.0), "rho"),
        (lambda: anchor_weights(ONE[None], 1.0), "cosines"),
        (lambda: QueryRotation(1), "dim"),
        (lambda: QueryRotation(4).rotate(torch.eye(5)), "rotation"),
        (lambda: QueryRotation(4).rotate(torch.eye(4) * math.nan), "rotation"),
        (lambda: QueryRotation(4).rotate(torch.eye(4) * 1.1), "rotation"),
        (lambda: QueryRotation(4).rotate(plane_rotation(*draw(0, 2, 5))), "rotation"),
        (lambda: QueryRotation(4).fold_into(nn.Linear(4, 5)), "linear"),
    ],
)
def test_a_bad_argument_is_named(call, name):
    with pytest.raises(ValueError, match=rf"^{name}.*expected"):
        call()


def test_keys_that_cancel_have_no_anchor():
    with pytest.raises(ValueError, match=r"^alpha: got 0\.5, for which the keys cancel"):
        rebalance_anchor(TWO, ONE, -ONE, 0.5)


def test_a_refused_rotation_leaves_the_module_as_it_was():
    rotation = QueryRotation(4)
    with pytest.raises(ValueError, match="orthogonal"):
        rotation.rotate(torch.ones(4, 4))
    assert torch.equal(rotation.matrix, torch.eye(4))
    assert rotation.count == 0


@pytest.mark.parametrize(
    ("basis", "block"),
    [
        ([[2.0, 0, 0], [0, 1, 0]], [[-1.0, 1], [-1, -1]]),  # a row that is too long
        ([[1.0, 0, 0], [0.6, 0.8, 0]], [[-1.0, 1], [-1, -1]]),  # rows that lean on each other
        ([[1.0, 0, 0], [0, 1, 0]], [[-1.0, 2], [-2, -1]]),  # a turn that stretches
        ([[1.0, 0, 0], [0, 1, 0]], [[-1.0, 1], [1, -1]]),  # one that shears
        ([[1.0, 0, 0], [0, 1, 0]], [[0.0, 0], [0, -2]]),  # a reflection
        ([[1.0, 0, 0], [0, math.nan, 0]], [[-1.0, 1], [-1, -1]]),
        ([[1.0, 0, 0], [0, 1, 0]], [[-1.0, math.inf], [-1, -1]]),
        ([[1.0, 0, 0], [0, 1, 0]], [[-1.0, 1]]),
        ([[1.0, 0], [0, 1]], [[-1.0, 1], [-1, -1]]),  # of another dimension
    ],
)
def test_what_is_no_turn_in_a_plane_is_refused(basis, block):
    rotation = QueryRotation(3)
    with pytest.raises(ValueError, match=r"^rotation: got "):
        rotation.rotate(PlaneRotation(torch.tensor(basis), torch.tensor(block)))
    assert torch.equal(rotation.matrix, torch.eye(3))
    assert rotation.count == 0


@pytest.mark.parametrize(
    "query", [torch.ones(5), torch.ones(2, 3), torch.ones(4).long(), [1.0] * 4]
)
def test_module_names_a_query_that_does_not_fit(query):
    with pytest.raises(ValueError, match=r"query: got .*4"):
        QueryRotation(4)(query)


# Extreme lengths, with entries that are zero.


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("size", [5e-324, 1e-200, 1e-160, 1e160, 1e300])
def test_extreme_vectors_with_zero_entries_turn_exactly(route, size):
    source = torch.tensor([size, 0, 0], dtype=torch.float64)
    target = torch.tensor([0, size, 0], dtype=torch.float64)
    expected = torch.tensor([0.0, 1, 0], dtype=torch.float64)
    for pair in ((source, expected), (source, target), (unit(source), target)):
        matrix = route(*pair)
        assert_rotation(matrix, 1e-12)
        torch.testing.assert_close(unit(source) @ matrix, expected, atol=1e-12, rtol=0)
    assert plane_rotation(source, target).angle == pytest.approx(math.pi / 2)
    assert plane_rotation(source, -source).angle == pytest.approx(math.pi)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (torch.float32, 1e-44), (torch.float32, 1e-30), (torch.float32, 3e38),
        (torch.float64, 5e-324), (torch.float64, 1e-200), (torch.float64, 1e300),
    ],
)  # fmt: skip
def test_the_anchor_of_extreme_keys_with_zero_entries(dtype, size):
    query = torch.tensor([3.0, 0, 4], dtype=dtype)
    key_a = torch.tensor([size, 0, 0], dtype=dtype)
    key_v = torch.tensor([0, 0, size], dtype=dtype)
    expected = torch.tensor([math.sqrt(12.5), 0, math.sqrt(12.5)], dtype=dtype)
    torch.testing.assert_close(rebalance_anchor(query, key_a, key_v, 0.5), expected)
    # As long as the query where that is extreme.
    anchor = rebalance_anchor(key_a, query, query, 0.5)
    assert float(anchor[2] / size) == pytest.approx(0.8, rel=1e-5 if size > 1e-40 else 0.3)


# What each of these would break stands in its name.


def test_the_sign_of_alpha_favours_the_neglected_modality():
    assert anchor_weight(0.5, 2.0) < 0.5 < anchor_weight(-0.5, 2.0)
    assert float(anchor_weight(torch.tensor(0.5), 2.0)) < 0.5
    assert anchor_weights(torch.tensor([0.5, -0.5]), 2.0).argmax() == 1


def test_a_rotation_is_not_its_transpose():
    east, north = torch.eye(2).double()
    quarter = torch.tensor([[0.0, 1], [-1, 0]]).double()
    turn = PlaneRotation.by_angle(east, north, math.pi / 2)
    for matrix in (minimal_rotation(east, north), turn.matrix()):
        torch.testing.assert_close(matrix, quarter, atol=1e-15, rtol=0)
    for rotation in (quarter, turn):
        module = QueryRotation(2).double()
        module.rotate(rotation)
        torch.testing.assert_close(module(east), north, atol=1e-15, rtol=0)
        torch.testing.assert_close(turn.apply(east), north, atol=1e-15, rtol=0)


def test_the_anchor_is_not_shorter_than_the_query():
    east, north = torch.eye(2).double()
    assert float(rebalance_anchor(2 * east, east, north, 0.5).norm()) == pytest.approx(2)
