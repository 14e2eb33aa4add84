"""Followers of one run: a reader waits for every new event, a waiter for a change of the run's status."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from vm_webapp.runs.records import EventRecord, RunHead

MAX_NOTICES = 20  # a slow client loses the oldest pieces of text, and no event: events are read from the database


class Reader:
    """A follower that reads the run's timeline by itself, and is woken when there may be new events.

    Attributes:
        last: the newest event that has been read, None before the first; the code that reads updates it.
        closed: whether the reader should stop.
    """

    def __init__(self) -> None:
        self.last: EventRecord | None = None
        self.closed = False
        self._woken = asyncio.Event()
        self._changed = False
        self._notices: deque[str] = deque(maxlen=MAX_NOTICES)

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
        """Return whether the run may have changed since the previous call."""
        taken, self._changed = self._changed, False
        return taken

    def take_notices(self) -> list[str]:
        """Return the pieces of text, as JSON, that arrived since the previous call. A slow reader misses some."""
        taken = list(self._notices)
        self._notices.clear()
        return taken

    def wake(self, notice: str) -> None:
        """Wake the reader.

        Args:
            notice: a piece of text that the run's model wrote, as JSON; "" if the run has changed.
        """
        if notice:
            self._notices.append(notice)
        else:
            self._changed = True
        self._woken.set()

    def update(self, head: RunHead | None) -> None:
        """Wake the reader unless the run's newest event is the last that it has read; None if the run is gone."""
        newest = (head.event_id, head.event_at) if head else None
        if self.last is None or newest != (self.last.id, self.last.created_at):
            self.wake("")

    def close(self) -> None:
        """Ask the reader to stop."""
        self.closed = True
        self._woken.set()


class Notices(Reader):
    """A follower of one run that passes on what its model writes, and nothing else, to a reader of something more.

    Args:
        reader: gets the pieces of text.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self._reader = reader

    def wake(self, notice: str) -> None:
        """Wake the reader if this is a piece of text."""
        if notice:
            self._reader.wake(notice)

    def update(self, head: RunHead | None) -> None:
        """Do nothing: the reader learns in another way that the run has changed."""


class Waiter:
    """A follower that waits for the run's status to change.

    Attributes:
        waiting: whether ``wait`` is in progress.
    """

    def __init__(self) -> None:
        self.waiting = False
        self._statuses: set[str | None] = set()
        self._released = asyncio.Event()

    async def wait(self, status: str, seconds: float) -> None:
        """Return when the status differs from this one, when the time is over, or at shutdown.

        Args:
            status: the status that was read after the waiter began to follow the run.
            seconds: the time limit.
        """
        # A poll may have reported a newer status before the caller had read this one: then the waiter returns at once.
        self._add(status)
        self.waiting = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._released.wait()
        self.waiting = False

    def update(self, head: RunHead | None) -> None:
        """Report the run's status to the waiter; None if the run has been deleted."""
        self._add(head.status if head else None)

    def close(self) -> None:
        """Ask the waiter to return."""
        self._released.set()

    def _add(self, status: str | None) -> None:
        self._statuses.add(status)
        if len(self._statuses) > 1:
            self._released.set()
