"""Notices when the pulse (the worker's maintenance loop) hangs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from vm_webapp.loops import Loop

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
# Counted in checks, not in seconds by the clock: after SIGSTOP and SIGCONT, or a suspended machine, the clock has moved
# on although the pulse had no chance to run.
MAX_MISSED_CHECKS = 60


class Watchdog:
    """Checks once a second, on a thread of its own, whether a tick of the pulse has ended.

    Args:
        expects: returns whether ticks are expected now.
        on_hang: called once, at the sixtieth check in a row without a tick.
    """

    def __init__(self, expects: Callable[[], bool], *, on_hang: Callable[[], object]) -> None:
        self._expects = expects
        self._on_hang = on_hang
        self._missed = 0
        self._loop = Loop("pulse-watchdog", self.check_once, every_seconds=CHECK_SECONDS)

    def start(self) -> None:
        """Start the checks."""
        self._loop.start()

    def stop(self) -> None:
        """Stop the checks."""
        self._loop.stop(0)

    def note_tick(self) -> None:
        """Record that a tick has ended, with success or an error."""
        self._missed = 0

    def check_once(self) -> None:
        """Count a check, and call ``on_hang`` if the pulse has missed too many."""
        self._missed = self._missed + 1 if self._expects() else 0
        # ``==``, not ``>=``: one call, although the checks go on until the process ends.
        if self._missed == MAX_MISSED_CHECKS:
            log.error("pulse.hangs", extra={"seconds": MAX_MISSED_CHECKS * CHECK_SECONDS})
            self._on_hang()
