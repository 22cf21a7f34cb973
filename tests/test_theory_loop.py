"""The model of the loop: its fixed points, its basins, its paths."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from rollingq_core.theory import FeedbackLoop

GAINS, STARTS, PACES = st.floats(0, 3), st.floats(-0.6, 0.6), st.floats(0.2, 4)


@given(GAINS, STARTS, PACES)
def test_fixed_points_rest_and_their_number_is_the_thresholds(gain, head_start, pace):
    loop = FeedbackLoop(gain, head_start, pace)
    limit = loop.largest_head_start
    assume(abs(abs(head_start) - limit) > 1e-6)
    points = loop.fixed_points()
    for point in points:
        assert loop.velocity([point.lean, point.gap]) == pytest.approx([0, 0], abs=1e-9)
    assert [p.lean for p in points] == sorted(p.lean for p in points)
    assert len(points) == (3 if abs(head_start) < limit else 1)
    # Counted in another way: changes of sign on a fine grid.
    lean = np.linspace(-6, 6, 200_001)
    excess = gain * (np.tanh(lean) + head_start) - lean
    if abs(abs(head_start) - limit) > 1e-3 and abs(gain - 1) > 1e-3:
        assert (np.diff(np.sign(excess[excess != 0])) != 0).sum() == len(points)


@given(GAINS, STARTS, PACES)
def test_stability_is_that_of_the_linear_part(gain, head_start, pace):
    loop = FeedbackLoop(gain, head_start, pace)
    for point in loop.fixed_points():
        slope = 1 / math.cosh(point.lean) ** 2
        growth = np.linalg.eigvals([[-1, gain], [pace * slope, -pace]]).real.max()
        assume(abs(growth) > 1e-6)
        assert point.stable == (growth < 0)


def test_thresholds():
    assert FeedbackLoop(0.9).largest_head_start == FeedbackLoop(1).largest_head_start == 0
    for gain in (1.2, 1.6, 2.5):
        limit = FeedbackLoop(gain).largest_head_start
        assert len(FeedbackLoop(gain, limit - 1e-4).fixed_points()) == 3
        assert len(FeedbackLoop(gain, limit + 1e-4).fixed_points()) == 1
    assert FeedbackLoop(1e6).largest_head_start == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("duration", [8, -2])
@pytest.mark.parametrize("pace", [0.3, 1, 3])
def test_paths_are_those_of_a_library(pace, duration):
    loop = FeedbackLoop(1.6, 0.1, pace)
    found = loop.run(-0.8, 0.6, duration)
    expected = solve_ivp(
        lambda _, state: loop.velocity(state), (0, duration), (-0.8, 0.6), rtol=1e-10, atol=1e-12
    ).y[:, -1]
    assert found.shape == (abs(duration) * 20 + 1, 2)
    np.testing.assert_allclose(found[0], [-0.8, 0.6])
    np.testing.assert_allclose(found[-1], expected, rtol=1e-4)


@pytest.mark.parametrize(("gain", "head_start"), [(1.6, 0.0), (1.6, 0.1), (2.5, -0.2), (1.4, 0.02)])
@pytest.mark.parametrize("pace", [0.4, 1, 3])
def test_boundary_parts_the_basins(gain, head_start, pace):
    loop = FeedbackLoop(gain, head_start, pace)
    low, saddle, high = loop.fixed_points()
    line = loop.boundary(reach=1.5)
    assert (np.diff(line[:, 1]) > 0).all()
    assert (np.diff(line[:, 0]) < 0).all()
    assert line[0, 1] < -1.5 < 1.5 < line[-1, 1]
    assert np.abs(line - [saddle.lean, saddle.gap]).sum(1).min() == 0
    for gap in (-1.2, 0.0, 0.5, 1.4):
        edge = np.interp(gap, line[:, 1], line[:, 0])
        for side, end in ((-0.05, low), (0.05, high)):
            last = loop.run(edge + side, gap, 120)[-1]
            np.testing.assert_allclose(last, [end.lean, end.gap], atol=1e-3)


def test_one_end_has_no_boundary():
    assert FeedbackLoop(0.8).boundary() is None
    assert FeedbackLoop(1.6, 0.3).boundary() is None


@given(st.floats(0.1, 0.9), st.floats(0, 0.01))
def test_a_small_head_start_is_amplified(gain, head_start):
    (point,) = FeedbackLoop(gain, head_start).fixed_points()
    assert point.lean <= gain * head_start / (1 - gain) + 1e-12
    if gain < 0.6:
        assert point.lean == pytest.approx(gain * head_start / (1 - gain), rel=0.01, abs=1e-9)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"gain": -1}, "gain"), ({"head_start": math.nan}, "head_start"), ({"pace": 0}, "pace")],
)
def test_what_does_not_fit_is_refused(wrong, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        FeedbackLoop(**{"gain": 1.0, **wrong})
