"""Signals that ask a run to save and end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals(
    received: list[int], forward_signal: Callable[[int], object] = lambda _: None
) -> Iterator[None]:
    """Add each SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 to a list, and forward it.

    Only the main thread receives signals; in another one this does nothing.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        forward_signal(number)

    names = ("SIGTERM", "SIGINT", "SIGUSR1")  # the last is not everywhere
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    try:
        before = {number: signal.signal(number, handle) for number in numbers}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
