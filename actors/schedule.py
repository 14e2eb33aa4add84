"""Decides when a duty is due."""

from __future__ import annotations

from collections.abc import Callable


class Periodic:
    """A duty that is due periodically.

    Args:
        run_once: does one batch; returns whether more is left, which makes the duty due again at once.
        every_seconds: the period, counted from a call that left nothing to do.
        after_error_seconds: how long to wait after a call that raised; ``every_seconds`` if None.
    """

    def __init__(
        self, run_once: Callable[[], bool], *, every_seconds: float, after_error_seconds: float | None = None
    ) -> None:
        self._run_once = run_once
        self._every_seconds = every_seconds
        self._after_error_seconds = every_seconds if after_error_seconds is None else after_error_seconds
        self._next = 0.0

    def run_if_due(self, now: float) -> bool:
        """Run the duty once if it is due; return whether it was.

        Args:
            now: the monotonic time.

        Raises:
            DatabaseUnavailable: the duty failed.
        """
        if now < self._next:
            return False
        self._next = now + self._after_error_seconds  # set first: stays if the call raises
        more = self._run_once()
        self._next = now if more else now + self._every_seconds
        return True
