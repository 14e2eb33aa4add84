"""Those who follow one run: a reader wants everything that is new, a waiter the change of its status."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from vm_webapp.runs.records import RunHead

MOST_NOTICES = 20


class Reader:
    """One who reads a run's timeline by itself, and is told when there may be something new.

    Attributes:
        position: the id of the newest event that it has read; the reader keeps it.
        closed: whether it should end.
    """

    def __init__(self) -> None:
        self.position = 0
        self.closed = False
        self._woken = asyncio.Event()
        self._changed = False
        self._notices: deque[str] = deque(maxlen=MOST_NOTICES)

    async def wait(self, seconds: float) -> bool:
        """Wait for a wake-up; return whether it came in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def take_change(self) -> bool:
        """Return whether the run may have changed since the last time."""
        taken, self._changed = self._changed, False
        return taken

    def take_notices(self) -> list[str]:
        """Return what was told of the model's writing since the last time, as JSON. A slow reader misses some."""
        taken = list(self._notices)
        self._notices.clear()
        return taken

    def hear(self, notice: str) -> None:
        """Take in that the run has changed, or where there is a notice what its model writes."""
        if notice:
            self._notices.append(notice)
        else:
            self._changed = True
        self._woken.set()

    def see(self, head: RunHead | None) -> None:
        """Take in where the run stands."""
        if head is not None and head.event_id > self.position:
            self.hear("")

    def close(self) -> None:
        """Ask the reader to end."""
        self.closed = True
        self._woken.set()


class Waiter:
    """One who waits for a run's status to change.

    Attributes:
        waiting: whether it has begun to, and has not ended.
    """

    def __init__(self) -> None:
        self.waiting = False
        self._statuses: set[str | None] = set()
        self._released = asyncio.Event()

    async def wait(self, status: str, seconds: float) -> None:
        """Return when the status is not, or no longer, this one, when the time is over, or at shutdown.

        Args:
            status: as it was read after the waiter began to follow the run.
            seconds: the time.
        """
        self._take_in(status)
        self.waiting = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._released.wait()
        self.waiting = False

    def see(self, head: RunHead | None) -> None:
        """Take in where the run stands; None where it is gone."""
        self._take_in(head.status if head else None)

    def close(self) -> None:
        """Ask the waiter to end."""
        self._released.set()

    def _take_in(self, status: str | None) -> None:
        self._statuses.add(status)
        if len(self._statuses) > 1:
            self._released.set()
