"""Notices that the pulse hangs for good, whatever it waits for."""

from __future__ import annotations

import logging
from collections.abc import Callable

from vm_webapp.loops import Loop

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# In looks, not by the clock: a process that was stopped itself, and goes on, has not been watching meanwhile.
DEAD_LOOKS = 60


class Watchdog:
    """Counts once a second, on a thread of its own, for how long no tick has ended.

    Args:
        expects: whether ticks are due at all.
        on_hang: called at the sixtieth.
    """

    def __init__(self, expects: Callable[[], bool], *, on_hang: Callable[[], object]) -> None:
        self._expects = expects
        self._on_hang = on_hang
        self._missed = 0
        self._loop = Loop("pulse-watchdog", self.look_once, every_seconds=LOOK_SECONDS)

    def start(self) -> None:
        """Start looking."""
        self._loop.start()

    def stop(self) -> None:
        """Look no more."""
        self._loop.stop(0)

    def note_tick(self) -> None:
        """Say that a tick has ended, well or not."""
        self._missed = 0

    def look_once(self) -> None:
        """Count a look, and act if there have been too many since the last tick."""
        self._missed = self._missed + 1 if self._expects() else 0
        if self._missed == DEAD_LOOKS:
            log.error("pulse.hangs", extra={"seconds": DEAD_LOOKS * LOOK_SECONDS})
            self._on_hang()
