"""All followers of runs in this process: Redis wakes them at once, and a poll of the database covers what Redis loses.

A poll is one query, however many runs are followed. Readers only have to know that there may be new events, which they
read by themselves, so a message from Redis is enough to wake them. Waiters need the run's status: the runs for which
Redis sent a message are polled together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from contextvars import Context
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

from api.http.threads import Threads
from api.streams.live_texts import LiveText
from api.streams.readers import Reader, Waiter
from api.streams.wake_ups import WakeUps
from vm_webapp.errors import Unavailable
from vm_webapp.fleet.installation import find_fingerprint, known_fingerprint
from vm_webapp.runs.records import RunHead

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
POLL_WITHOUT_REDIS_SECONDS = 0.25
REST_SECONDS = 0.02  # between two polls of the runs that Redis reported: at most fifty per second

Heads = Callable[[Collection[UUID]], dict[UUID, RunHead]]
Follower = TypeVar("Follower", Reader, Waiter)


class Followers:
    """The registry of all readers and waiters of a process.

    Args:
        threads: the pool on which the query runs.
        heads: returns the status and the newest event id of each of the given runs.
        redis_url: the Redis that sends wake-ups, None to work without them.
    """

    def __init__(self, threads: Threads, heads: Heads, redis_url: str | None) -> None:
        self._threads = threads
        self._heads = heads
        self._followed: dict[UUID, set[Reader | Waiter]] = {}
        self._texts: dict[UUID, LiveText] = {}
        self._reported: set[UUID] = set()
        self._wake_ups = (
            WakeUps(redis_url, self._fingerprint, lambda: self._followed, self._wake) if redis_url is not None else None
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._followed.values()))

    @property
    def waiting(self) -> int:
        """How many requests wait for a status to change."""
        waiters = [each for each in chain(*self._followed.values()) if isinstance(each, Waiter)]
        return sum(each.waiting for each in waiters)

    @property
    def listening(self) -> bool:
        """Whether this process currently receives the wake-ups of every followed run."""
        return self._wake_ups is not None and self._wake_ups.listening

    @asynccontextmanager
    async def follow(self, run_id: UUID, reader: Reader | None = None) -> AsyncIterator[Reader]:
        """Follow a run for the block. Read its events only within the block, so that none is missed.

        Args:
            run_id: the run.
            reader: who is woken; by default a new one.
        """
        async with self._registered(run_id, reader or Reader()) as follower:
            yield follower

    @asynccontextmanager
    async def await_change(self, run_id: UUID) -> AsyncIterator[Waiter]:
        """Follow a run's status for the block. Read it only within the block, so that no change is missed."""
        async with self._registered(run_id, Waiter()) as waiter:
            yield waiter

    async def close(self) -> None:
        """Make every reader and waiter return."""
        self._closed = True
        for followers in self._followed.values():
            for each in followers:
                each.close()
        pending = set(self._tasks.values())
        self._tasks.clear()
        # Repeatedly, because redis-py swallows a cancellation that arrives while it connects.
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.1)

    @asynccontextmanager
    async def _registered(self, run_id: UUID, follower: Follower) -> AsyncIterator[Follower]:
        # A request may arrive between close() and the moment when the server stops accepting: it must not wait.
        if self._closed:
            follower.close()
        begun = run_id if run_id not in self._followed else None
        self._followed.setdefault(run_id, set()).add(follower)
        if isinstance(follower, Reader) and run_id in self._texts and (written := self._texts[run_id].whole()):
            follower.wake(written)
        self._start("poll", self._poll_all)
        if self._wake_ups is not None:
            self._start("listen", self._wake_ups.listen)
            self._wake_ups.note_change(begun)
        try:
            yield follower
        finally:
            remaining = self._followed[run_id]
            remaining.discard(follower)
            if not remaining:
                del self._followed[run_id]
                self._texts.pop(run_id, None)
            if self._wake_ups is not None:
                self._wake_ups.note_change()

    async def _fingerprint(self) -> str | None:
        try:
            return known_fingerprint() or await self._threads.run(find_fingerprint)
        except Unavailable:
            return None

    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        running = self._tasks.get(name)
        if not self._closed and (running is None or running.done()):
            # In a context of its own: it outlives the request that starts it, whose id and trace would stay with it.
            self._tasks[name] = asyncio.create_task(work(), name=f"followers.{name}", context=Context())

    async def _poll_all(self) -> None:
        """Poll all followed runs at intervals, until nothing is followed any more."""
        while self._followed:
            await asyncio.sleep(POLL_SECONDS if self.listening else POLL_WITHOUT_REDIS_SECONDS)
            await self._poll(list(self._followed))

    async def _poll_reported(self) -> None:
        """Poll the runs that Redis reported, until it has reported no more."""
        while self._reported:
            # Swapped before the query: a run that is reported while it executes may have changed after its snapshot.
            reported, self._reported = self._reported, set()
            await self._poll(reported)
            await asyncio.sleep(REST_SECONDS)

    async def _poll(self, run_ids: Collection[UUID]) -> None:
        # Only for those who follow now. A waiter that registers during the query may read a newer status than the query
        # returns, and would take the older one for a change.
        asked = {run_id: tuple(self._followed.get(run_id, ())) for run_id in run_ids}
        if not any(asked.values()):
            return
        try:
            heads = await self._threads.run(lambda: self._heads(run_ids))
        except Unavailable:
            return  # the next poll tries again
        except Exception:
            log.exception("followers.look_failed")
            return
        for run_id, followers in asked.items():
            for each in followers:
                each.update(heads.get(run_id))

    def _wake(self, run_id: UUID, notice: str) -> None:
        if not notice:
            self._texts.pop(run_id, None)  # a stage has ended, or begins anew
        elif run_id in self._followed:
            further = self._texts.setdefault(run_id, LiveText()).take(notice)
            if further is None:
                return
            notice = further
        for each in self._followed.get(run_id, ()):
            if isinstance(each, Reader):
                each.wake(notice)
            elif not notice:
                self._reported.add(run_id)
                self._start("poll reported", self._poll_reported)
