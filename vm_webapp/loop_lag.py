"""By how much the event loops of this process are late: while one is blocked, none of its requests or calls goes on."""

from __future__ import annotations

import asyncio
import threading

from vm_webapp.metrics import LOOP_LAG_SECONDS

CHECK_SECONDS = 0.25


class LoopLag:
    """Keeps the worst lag since the one before was published."""

    def __init__(self) -> None:
        self._worst = self._taken = 0.0
        self._lock = threading.Lock()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check a loop four times a second until it is closed; to be called on its thread."""
        due = loop.time() + CHECK_SECONDS
        loop.call_at(due, self._check, loop, due)

    def take(self) -> float:
        """Return the worst lag since the last one that was published, in seconds."""
        with self._lock:
            self._taken = self._worst
        # To a hundredth: what an idle loop is late by would otherwise be another figure each time.
        return round(self._taken, 2)

    def published(self) -> None:
        """Begin anew: what was taken last is published. A lag that was worse meanwhile is kept for the next time."""
        with self._lock:
            if self._worst == self._taken:
                self._worst = 0.0

    def _check(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        with self._lock:
            self._worst = max(self._worst, loop.time() - due)
        self.watch(loop)


LOOP_LAG = LoopLag()
LOOP_LAG_SECONDS.set_function(LOOP_LAG.take)
