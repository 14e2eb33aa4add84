"""Signals of a worker process: process groups deliver one twice."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

SAME_SIGNAL_SECONDS = 2.0


def ignore_echoes(*numbers: int) -> None:
    """Keep signals from reaching their handlers again within two seconds of the first of them: that is the same signal.

    Does nothing outside the main thread, and where no handler of Python's is installed.
    """
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
