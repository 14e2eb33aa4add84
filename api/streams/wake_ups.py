"""Wake-ups over Redis: who follows a run is told of it as soon as it has changed. All may be lost.

One task owns the connection, and no request waits for it: redis-py reconnects within a read as within a SUBSCRIBE, and
two that do so at a time stumble over each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

import redis
from redis.asyncio.client import PubSub

from vm_webapp.redis_client import listening_client
from vm_webapp.runs.channels import CHANNEL, channel_of

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0


class WakeUps:
    """A subscription of this process to the runs that somebody follows.

    Args:
        url: where Redis is.
        wanted: the runs that are followed now.
        hear: called with a run and what its model writes, "" where the run has changed.
    """

    def __init__(self, url: str, wanted: Callable[[], Collection[UUID]], hear: Callable[[UUID, str], None]) -> None:
        self._url = url
        self._wanted = wanted
        self._hear = hear
        self._changed = asyncio.Event()
        self._subscribed: set[UUID] | None = None  # None while there is no connection

    @property
    def listening(self) -> bool:
        """Whether whatever is followed now is told of."""
        return self._subscribed is not None and self._subscribed >= set(self._wanted())

    def note_change(self) -> None:
        """Say that other runs are followed than a moment ago."""
        self._changed.set()

    async def listen(self) -> None:
        """Listen until canceled; connect anew when the connection breaks."""
        while True:
            try:
                client = listening_client(self._url)
                async with client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    # Subscribing to something that nobody uses opens the connection.
                    await pubsub.subscribe(CHANNEL)
                    self._subscribed = set()
                    await self._listen_on(pubsub)
            except (redis.RedisError, OSError) as error:
                log.info("followers.redis_unavailable", extra={"error": type(error).__name__})
            except Exception:
                log.exception("followers.crashed")
            finally:
                self._subscribed = None
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_on(self, pubsub: PubSub) -> None:
        """Take messages, and between two of them subscribe to what is wanted by now."""
        changed = asyncio.create_task(self._changed.wait())
        try:
            while True:
                self._changed.clear()
                await self._subscribe_as_wanted(pubsub)
                reading = asyncio.create_task(self._read(pubsub))
                try:
                    await asyncio.wait({reading, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    # What has been read of a message by then is kept, and read on.
                    reading.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await reading
                if changed.done():
                    changed = asyncio.create_task(self._changed.wait())
        finally:
            changed.cancel()

    async def _read(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=None)
            if message is not None:
                self._take(message)

    async def _subscribe_as_wanted(self, pubsub: PubSub) -> None:
        subscribed, wanted = self._subscribed or set(), set(self._wanted())
        if new := wanted - subscribed:
            await pubsub.subscribe(*map(channel_of, new))
        if left := subscribed - wanted:
            await pubsub.unsubscribe(*map(channel_of, left))
        self._subscribed = wanted

    def _take(self, message: dict[str, Any]) -> None:
        name = message["channel"].decode().removeprefix(CHANNEL)
        with contextlib.suppress(ValueError):
            self._hear(UUID(name), message["data"].decode(errors="replace"))
