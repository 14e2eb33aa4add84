"""Stops calls to a dependency for a while after it failed (M. Nygard, Release It!, "Circuit Breaker")."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Open for some seconds after a failure, then half open until the next success or failure.

    Without a lock: two threads that race may call the dependency once too often, which is harmless.

    Args:
        open_seconds: how long no call should be made after a failure.
        clock: monotonic seconds.
    """

    def __init__(self, open_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._open_seconds = open_seconds
        self._clock = clock
        self._open_until = 0.0
        self._failed = False

    @property
    def is_open(self) -> bool:
        """Whether the last call failed less than ``open_seconds`` ago, so that no call should be made."""
        return self._failed and self._clock() < self._open_until

    @property
    def is_half_open(self) -> bool:
        """Whether the last call failed and the next one may be made."""
        return self._failed and self._clock() >= self._open_until

    def record_failure(self) -> bool:
        """Open the breaker; return whether this failure is the first since the last success."""
        first = not self._failed
        self._failed = True
        self._open_until = self._clock() + self._open_seconds
        return first

    def record_success(self) -> bool:
        """Close the breaker; return whether the call before this one had failed."""
        recovered, self._failed = self._failed, False
        return recovered
