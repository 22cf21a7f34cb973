"""The figure that is drawn anew after each epoch."""

import pytest

from rollingq_core.explorer import LiveCurves, live_curves
from rollingq_core.plots import BookFigure
from tests.small import small_data, train


class Handle:
    def __init__(self):
        self.updates = []

    def update(self, shown):
        self.updates.append(shown)


@pytest.fixture
def shown(monkeypatch):
    """What is displayed first, and what its place holds afterwards."""
    first, handle = [], Handle()

    def display(figure, display_id):
        assert display_id is True
        first.append(figure)
        return handle

    monkeypatch.setattr(live_curves, "display", display)
    return first, handle.updates


def test_one_place_shows_all_epochs_of_fusion(shown):
    first, updates = shown
    history = []
    curves = LiveCurves("Title", "caption", "alt")
    curves(history)
    data = small_data()
    train(data, rolling={}, on_epoch=lambda record: (history.append(record), curves(history)))
    # One epoch of pretraining, three of fusion.
    assert (len(first), len(updates)) == (1, 2)
    assert all(isinstance(one, BookFigure) for one in (*first, *updates))
    for count, one in enumerate((*first, *updates), start=1):
        for axis in one.drawn.axes:
            assert max(len(line.get_xdata()) for line in axis.lines) in (count, 2)


def test_a_run_that_goes_on_shows_what_was_there(shown):
    first, updates = shown
    _, result, _ = train(small_data())
    LiveCurves("Title", "caption", "alt")(result.history)
    assert (len(first), len(updates)) == (1, 0)
    assert len(first[0].drawn.axes[0].lines[0].get_xdata()) == 3


def test_fast_epochs_are_drawn_now_and_then(shown):
    first, updates = shown
    curves = LiveCurves("Title", "caption", "alt", every=3)
    _, result, _ = train(small_data())
    for count in range(1, len(result.history) + 1):
        curves(result.history[:count])
    # One epoch of pretraining, three of fusion: the first of them and the third are drawn.
    assert (len(first), len(updates)) == (1, 1)
    assert len(updates[0].drawn.axes[0].lines[0].get_xdata()) == 3
