"""All who follow runs in this process: told at once by Redis, and by a look at the database at steady intervals.

However many follow, a look is one query for all of them. Readers read their events by themselves: they are told only
that there may be something. What Redis says is enough for them; waiters need the status, for which the runs that Redis
told of are looked at together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

from api.http.threads import Threads
from api.streams.readers import Reader, Waiter
from api.streams.wake_ups import WakeUps
from vm_webapp.errors import Unavailable
from vm_webapp.runs.records import RunHead

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LOOK_WITHOUT_REDIS_SECONDS = 0.25
REST_SECONDS = 0.02  # between two looks at what Redis told of: at most fifty a second, however much happens

Heads = Callable[[Collection[UUID]], dict[UUID, RunHead]]
Follower = TypeVar("Follower", Reader, Waiter)


class Followers:
    """All readers and waiters of a process.

    Args:
        threads: where the query runs.
        heads: returns where each of many runs stands.
        redis_url: where wake-ups come from, None to do without them.
    """

    def __init__(self, threads: Threads, heads: Heads, redis_url: str | None) -> None:
        self._threads = threads
        self._heads = heads
        self._followed: dict[UUID, set[Reader | Waiter]] = {}
        self._told_of: set[UUID] = set()
        self._wake_ups = WakeUps(redis_url, lambda: self._followed, self._hear) if redis_url is not None else None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._followed.values()))

    @property
    def waiting(self) -> int:
        """How many wait for a status to change."""
        waiters = [each for each in chain(*self._followed.values()) if isinstance(each, Waiter)]
        return sum(each.waiting for each in waiters)

    @property
    def listening(self) -> bool:
        """Whether wake-ups come from Redis now."""
        return self._wake_ups is not None and self._wake_ups.listening

    @asynccontextmanager
    async def follow(self, run_id: UUID) -> AsyncIterator[Reader]:
        """Follow a run for the block. Read its events after this begins, so that nothing falls between."""
        async with self._registered(run_id, Reader()) as reader:
            yield reader

    @asynccontextmanager
    async def await_change(self, run_id: UUID) -> AsyncIterator[Waiter]:
        """Follow a run's status for the block. Read it after this begins, so that no change falls between."""
        async with self._registered(run_id, Waiter()) as waiter:
            yield waiter

    async def close(self) -> None:
        """Let every reader and waiter end."""
        self._closed = True
        for followers in self._followed.values():
            for each in followers:
                each.close()
        pending = set(self._tasks.values())
        self._tasks.clear()
        # More than once, because redis-py swallows a cancellation that comes while it connects.
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.1)

    @asynccontextmanager
    async def _registered(self, run_id: UUID, follower: Follower) -> AsyncIterator[Follower]:
        if self._closed:
            follower.close()
        self._followed.setdefault(run_id, set()).add(follower)
        self._start("look", self._look_at_all)
        if self._wake_ups is not None:
            self._start("listen", self._wake_ups.listen)
            self._wake_ups.note_change()
        try:
            yield follower
        finally:
            remaining = self._followed[run_id]
            remaining.discard(follower)
            if not remaining:
                del self._followed[run_id]
            if self._wake_ups is not None:
                self._wake_ups.note_change()

    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        running = self._tasks.get(name)
        if not self._closed and (running is None or running.done()):
            self._tasks[name] = asyncio.create_task(work(), name=f"followers.{name}")

    async def _look_at_all(self) -> None:
        """Cover lost wake-ups for as long as anybody follows."""
        while self._followed:
            await asyncio.sleep(LOOK_SECONDS if self.listening else LOOK_WITHOUT_REDIS_SECONDS)
            await self._look(list(self._followed))

    async def _look_at_told(self) -> None:
        """Look at what Redis told of; what it tells of meanwhile is the next look's."""
        while self._told_of:
            told_of, self._told_of = self._told_of, set()
            await self._look(told_of)
            await asyncio.sleep(REST_SECONDS)

    async def _look(self, run_ids: Collection[UUID]) -> None:
        # Whoever comes during the query may know more than its answer does.
        asked = {run_id: tuple(self._followed.get(run_id, ())) for run_id in run_ids}
        if not any(asked.values()):
            return
        try:
            heads = await self._threads.run(lambda: self._heads(run_ids))
        except Unavailable:
            return  # the next look tries again
        except Exception:
            log.exception("followers.look_failed")
            return
        for run_id, followers in asked.items():
            for each in followers:
                each.see(heads.get(run_id))

    def _hear(self, run_id: UUID, notice: str) -> None:
        for each in self._followed.get(run_id, ()):
            if isinstance(each, Reader):
                each.hear(notice)
            elif not notice:
                self._told_of.add(run_id)
                self._start("look at told", self._look_at_told)
