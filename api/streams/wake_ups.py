"""Wake-ups over Redis: who follows a run is told of it as soon as it has changed. All may be lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
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
        wanted: the runs to subscribe to on a new connection.
        hear: called with a run and what its model writes, "" where the run has changed.
    """

    def __init__(self, url: str, wanted: Callable[[], Iterable[UUID]], hear: Callable[[UUID, str], None]) -> None:
        self._url = url
        self._wanted = wanted
        self._hear = hear
        self._pubsub: PubSub | None = None

    @property
    def listening(self) -> bool:
        """Whether there is a connection now."""
        return self._pubsub is not None

    async def listen(self) -> None:
        """Listen until canceled; connect anew when the connection breaks."""
        while True:
            try:
                client = listening_client(self._url)
                async with client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    # Subscribing to something that nobody uses opens the connection.
                    await pubsub.subscribe(CHANNEL, *map(channel_of, self._wanted()))
                    self._pubsub = pubsub
                    try:
                        async for message in pubsub.listen():
                            self._take(message)
                    finally:
                        self._pubsub = None
            except (redis.RedisError, OSError) as error:
                log.info("followers.redis_unavailable", extra={"error": type(error).__name__})
            except Exception:
                log.exception("followers.crashed")
            await asyncio.sleep(RECONNECT_SECONDS)

    async def subscribe(self, run_id: UUID) -> None:
        """Want to hear of a run."""
        await self._tell(lambda pubsub: pubsub.subscribe(channel_of(run_id)))

    async def unsubscribe(self, run_id: UUID) -> None:
        """Want to hear of a run no longer."""
        await self._tell(lambda pubsub: pubsub.unsubscribe(channel_of(run_id)))

    def _take(self, message: dict[str, Any]) -> None:
        name = message["channel"].decode().removeprefix(CHANNEL)
        with contextlib.suppress(ValueError):
            self._hear(UUID(name), message["data"].decode(errors="replace"))

    async def _tell(self, tell: Callable[[PubSub], Any]) -> None:
        pubsub = self._pubsub
        if pubsub is not None:
            # The listener notices by itself that the connection is gone, and subscribes anew. When it closes the
            # connection while redis-py is about to write, redis-py stumbles over a writer that is None.
            with contextlib.suppress(redis.RedisError, OSError, AttributeError):
                await tell(pubsub)
