"""Ctrl-C during a training: remembered, where Python would drop it."""

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import FrameType


@contextmanager
def remembered_ctrl_c() -> Iterator[Event]:
    """Yield an event that Ctrl-C sets.

    Python drops an interrupt that comes while an object is being deleted, as those that read ahead
    are after each epoch. So the end of an epoch asks again. What Python would tell of such a drop,
    or of an object that was only half made, is not shown after Ctrl-C.
    """
    pressed = Event()

    def press(number: int, frame: FrameType | None) -> None:
        pressed.set()
        raise KeyboardInterrupt

    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield pressed
        return
    shown = sys.unraisablehook

    def show(dropped: "sys.UnraisableHookArgs") -> None:
        if not pressed.is_set():
            shown(dropped)

    before, sys.unraisablehook = signal.signal(signal.SIGINT, press), show
    try:
        yield pressed
    except KeyboardInterrupt as stop:
        # What the interrupted functions held is deleted here, where it complains unheard.
        traceback.clear_frames(stop.__traceback__)
        raise
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = shown
