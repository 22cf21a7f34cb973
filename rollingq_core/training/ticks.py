"""A tick at the end of each epoch, for whoever shows the progress of many trainings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[], None] | None] = ContextVar("_listener", default=None)


@contextmanager
def ticks_heard_by(listener: Callable[[], None]) -> Iterator[None]:
    """Call ``listener`` at the end of each epoch of what is trained in this block.

    Examples
    --------
    >>> heard = []
    >>> with ticks_heard_by(lambda: heard.append("epoch")):
    ...     tick()
    >>> heard
    ['epoch']
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tick() -> None:
    """Tell that an epoch has ended."""
    listener = _listener.get()
    if listener is not None:
        listener()
