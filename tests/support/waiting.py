"""Waiting for something to become true, with a deadline and a message, instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def eventually(look: Callable[[], Value | None], what: str, *, seconds: float = 15.0, every: float = 0.02) -> Value:
    """Return the first true value of ``look``.

    Raises:
        AssertionError: there was none in time; the text says what was waited for and what was seen last.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"within {seconds:g} s not seen: {what}; last seen: {seen!r}"
        time.sleep(every)
