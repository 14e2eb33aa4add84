"""Signals of a worker process, which may receive each of them twice."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

SAME_SIGNAL_SECONDS = 2.0


def ignore_echoes(*numbers: int) -> None:
    """Drop signals that arrive within two seconds of the first one: they are copies of it.

    Does nothing outside the main thread, nor for a signal without a Python handler.

    Args:
        numbers: the signals, which count as copies of each other.
    """
    # ``uv run`` forwards a signal that the process group has delivered already. Dramatiq's handler would take the copy
    # for a second request, and exit without a drain.
    if threading.current_thread() is not threading.main_thread():
        return
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    first: float | None = None

    def handle_once(number: int, frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if first is None or now - first > SAME_SIGNAL_SECONDS:
            first = first or now
            handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, handle_once)
