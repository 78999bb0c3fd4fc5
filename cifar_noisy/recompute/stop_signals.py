"""Signals that ask a run to save and end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals(
    received: list[int], pass_on: Callable[[int], object] | None = None
) -> Iterator[None]:
    """Note SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 in a list instead of dying of them.

    Parameters
    ----------
    received : list of int
        What was received until now. Threads but the main one never receive any.
    pass_on : function of a signal's number, optional
        Called on each, between two steps of the main thread.
    """

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if pass_on is not None:
            pass_on(number)

    names = ("SIGTERM", "SIGINT", "SIGUSR1")  # the last is not everywhere
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    try:
        before = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not the main thread, which alone may do this
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
