"""Signals of a worker process: process groups deliver one twice."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

SAME_SIGNAL_SECONDS = 2.0


def ignore_echoes(number: int) -> None:
    """Keep a signal's handler from being called again within two seconds of the first call: that is the same signal.

    Does nothing outside the main thread, and where no handler of Python's is installed.
    """
    handle = signal.getsignal(number)
    if threading.current_thread() is not threading.main_thread() or not callable(handle):
        return
    first: float | None = None

    def handle_once(number: int, frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if first is None or now - first > SAME_SIGNAL_SECONDS:
            first = first or now
            handle(number, frame)

    signal.signal(number, handle_once)
