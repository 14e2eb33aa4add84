"""Wakes those who follow a run: at once by Redis, and after a second at the latest by one query for all of them.

Readers keep their own position and read the events by themselves: a wake-up says only that there may be something.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import redis
from redis.asyncio.client import PubSub

from api.http.threads import Threads
from vm_webapp.errors import Unavailable
from vm_webapp.redis_client import listening_client
from vm_webapp.runs.channels import CHANNEL, channel_of

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
RECONNECT_SECONDS = 1.0
MOST_NOTICES = 20

NewestIds = Callable[[Collection[UUID]], dict[UUID, int]]


class Reader:
    """One follower of one run."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._notices: deque[str] = deque(maxlen=MOST_NOTICES)
        self.closed = False

    async def wait(self, seconds: float) -> bool:
        """Wait for a wake-up; return whether it came in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def take_notices(self) -> list[str]:
        """Return what was told of the model's writing since the last time, as JSON. A slow reader misses some."""
        taken = list(self._notices)
        self._notices.clear()
        return taken

    def wake(self, notice: str = "") -> None:
        """Wake the reader, with something to tell or without."""
        if notice:
            self._notices.append(notice)
        self._woken.set()

    def close(self) -> None:
        """Ask the reader to end."""
        self.closed = True
        self._woken.set()


class Followers:
    """All readers of a process.

    Args:
        threads: where the query runs.
        newest_ids: returns the id of the newest event of many runs at once.
        redis_url: where wake-ups come from, None to do without them.
    """

    def __init__(self, threads: Threads, newest_ids: NewestIds, redis_url: str | None) -> None:
        self._threads = threads
        self._newest_ids = newest_ids
        self._redis_url = redis_url
        self._readers: dict[UUID, set[Reader]] = {}
        self._seen: dict[UUID, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._pubsub: PubSub | None = None
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._readers.values()))

    @property
    def listening(self) -> bool:
        """Whether wake-ups come from Redis now."""
        return self._pubsub is not None

    @asynccontextmanager
    async def follow(self, run_id: UUID) -> AsyncIterator[Reader]:
        """Follow a run for the block. Read its events after this begins, so that nothing falls between."""
        reader = Reader()
        if self._closed:
            reader.close()
        first = run_id not in self._readers
        self._readers.setdefault(run_id, set()).add(reader)
        self._start()
        try:
            if first:
                await self._subscribe(run_id)
            yield reader
        finally:
            remaining = self._readers[run_id]
            remaining.discard(reader)
            if not remaining:
                del self._readers[run_id]
                self._seen.pop(run_id, None)
                await self._unsubscribe(run_id)

    async def close(self) -> None:
        """Let every reader end."""
        self._closed = True
        for readers in self._readers.values():
            for reader in readers:
                reader.close()
        pending = set(self._tasks)
        self._tasks.clear()
        # More than once, because redis-py swallows a cancellation that comes while it connects.
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.1)

    def _start(self) -> None:
        if not self._tasks and not self._closed:
            self._tasks.append(asyncio.create_task(self._look_now_and_then()))
            if self._redis_url is not None:
                self._tasks.append(asyncio.create_task(self._listen(self._redis_url)))

    async def _look_now_and_then(self) -> None:
        """Cover a lost wake-up: one query a second for all runs that are followed, none while there are none."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            wanted = list(self._readers)
            if not wanted:
                continue
            try:
                newest = await self._threads.run(lambda wanted=wanted: self._newest_ids(wanted))  # type: ignore[misc]
            except Unavailable:
                continue
            for run_id, event_id in newest.items():
                if event_id > self._seen.get(run_id, 0):
                    self._seen[run_id] = event_id
                    self._wake(run_id, "")

    async def _listen(self, url: str) -> None:
        while True:
            try:
                client = listening_client(url)
                async with client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    # Subscribing to something that nobody uses opens the connection.
                    await pubsub.subscribe(CHANNEL, *map(channel_of, self._readers))
                    self._pubsub = pubsub
                    async for message in pubsub.listen():
                        self._hear(message)
            except (redis.RedisError, OSError) as error:
                log.info("followers.redis_unavailable", extra={"error": type(error).__name__})
            except Exception:
                log.exception("followers.crashed")
            finally:
                self._pubsub = None
            await asyncio.sleep(RECONNECT_SECONDS)

    def _hear(self, message: dict[str, Any]) -> None:
        name = message["channel"].decode().removeprefix(CHANNEL)
        with contextlib.suppress(ValueError):
            self._wake(UUID(name), message["data"].decode(errors="replace"))

    def _wake(self, run_id: UUID, notice: str) -> None:
        for reader in self._readers.get(run_id, ()):
            reader.wake(notice)

    async def _subscribe(self, run_id: UUID) -> None:
        await self._tell(lambda pubsub: pubsub.subscribe(channel_of(run_id)))

    async def _unsubscribe(self, run_id: UUID) -> None:
        if run_id not in self._readers:
            await self._tell(lambda pubsub: pubsub.unsubscribe(channel_of(run_id)))

    async def _tell(self, tell: Callable[[PubSub], Any]) -> None:
        pubsub = self._pubsub
        if pubsub is not None:
            # The listener notices by itself that the connection is gone, and subscribes anew.
            with contextlib.suppress(redis.RedisError, OSError):
                await tell(pubsub)
