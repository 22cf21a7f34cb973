"""Ctrl-C during a training: remembered, where Python would drop it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import FrameType


@contextmanager
def remembered_ctrl_c() -> Iterator[Event]:
    """Yield an event that Ctrl-C sets.

    Python drops an interrupt that comes while an object is being deleted, as those that read ahead
    are after each epoch. So the end of an epoch asks again.
    """
    pressed = Event()

    def press(number: int, frame: FrameType | None) -> None:
        pressed.set()
        raise KeyboardInterrupt

    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield pressed
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
