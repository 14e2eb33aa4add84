"""Waits, with a deadline and a message, for something to become true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def eventually(check: Callable[[], Value | None], what: str, *, seconds: float = 15.0, every: float = 0.02) -> Value:
    """Return the first true value of ``check``.

    Raises:
        AssertionError: there was none in time; the message has ``what`` and the last value.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = check()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"within {seconds:g} s not seen: {what}; last seen: {seen!r}"
        time.sleep(every)
