"""When a duty is due."""

from __future__ import annotations

from collections.abc import Callable


class Periodic:
    """A duty with its period.

    Args:
        run_once: does a piece of it; returns whether more of it is left.
        every_seconds: from one time that nothing was left to the next.
        after_error_seconds: until the next try of one that failed.
    """

    def __init__(
        self, run_once: Callable[[], bool], *, every_seconds: float, after_error_seconds: float | None = None
    ) -> None:
        self._run_once = run_once
        self._every_seconds = every_seconds
        self._after_error_seconds = every_seconds if after_error_seconds is None else after_error_seconds
        self._next = 0.0

    def run_if_due(self, now: float) -> bool:
        """Do a piece of it if it is time; return whether it was.

        Args:
            now: the monotonic time.

        Raises:
            DatabaseUnavailable: it was not done.
        """
        if now < self._next:
            return False
        self._next = now + self._after_error_seconds
        more = self._run_once()
        self._next = now if more else now + self._every_seconds
        return True
