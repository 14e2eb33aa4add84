"""Leaves a dependency that failed alone for a while (M. Nygard, Release It!, "Circuit Breaker")."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Open for some seconds after a failure, then half open until the next success or failure.

    Not locked: threads that disagree for a moment ask the dependency once too often, which is harmless.

    Args:
        open_seconds: how long nothing should be asked after a failure.
        clock: monotonic seconds.
    """

    def __init__(self, open_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._open_seconds = open_seconds
        self._clock = clock
        self._open_until = 0.0
        self._failed = False

    @property
    def is_open(self) -> bool:
        """Whether it failed a moment ago, so that nothing should be asked."""
        return self._failed and self._clock() < self._open_until

    @property
    def is_half_open(self) -> bool:
        """Whether it failed when it was asked last, and may be asked again."""
        return self._failed and self._clock() >= self._open_until

    def record_failure(self) -> bool:
        """Open it; return whether it had been working until now."""
        first = not self._failed
        self._failed = True
        self._open_until = self._clock() + self._open_seconds
        return first

    def record_success(self) -> bool:
        """Close it; return whether it had been failing until now."""
        recovered, self._failed = self._failed, False
        return recovered
