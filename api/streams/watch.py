"""Waits for runs to change: however many wait, one query for all of them, and none while nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from uuid import UUID

from api.http.threads import Threads
from vm_webapp.errors import Unavailable

Statuses = Callable[[Collection[UUID]], dict[UUID, str]]
POLL_SECONDS = 0.25


class RunWatcher:
    """The one poller of a process.

    Args:
        threads: where the query runs.
        statuses: returns the status of many runs at once.
    """

    def __init__(self, threads: Threads, statuses: Statuses) -> None:
        self._threads = threads
        self._statuses = statuses
        self._waiting: dict[asyncio.Future[None], tuple[UUID, str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return len(self._waiting)

    async def wait_for_change(self, run_id: UUID, status: str, seconds: float) -> None:
        """Return when the run's status is no longer ``status``, when the time is over, or at shutdown."""
        if self._closed:
            return
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[changed] = (run_id, status)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(seconds):
                await changed
        except TimeoutError:
            pass
        finally:
            self._waiting.pop(changed, None)

    async def close(self) -> None:
        """Release everybody who waits."""
        self._closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        if self._task is not None:
            self._task.cancel()

    async def _poll(self) -> None:
        while self._waiting:
            await asyncio.sleep(POLL_SECONDS)
            if self._waiting:
                await self._wake_those_whose_run_changed()

    async def _wake_those_whose_run_changed(self) -> None:
        wanted = {run_id for run_id, _ in self._waiting.values()}
        try:
            found = await self._threads.run(lambda: self._statuses(wanted))
        except Unavailable:
            return  # they wait on; the read at the end says what is wrong
        for waiter, (run_id, status) in self._waiting.items():
            # Whoever came during the query was not asked about.
            if run_id in wanted and found.get(run_id) != status and not waiter.done():
                waiter.set_result(None)
