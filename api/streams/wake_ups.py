"""Wake-ups over Redis: they reach the followers of a run as soon as it has changed. Any of them may be lost.

One task owns the connection, and no request waits for it: redis-py reconnects within a read as well as within a
SUBSCRIBE, and two tasks that do so at the same time break each other's connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any
from uuid import UUID, uuid4

import redis
import redis.asyncio
from redis.asyncio.client import PubSub

from vm_webapp.redis_client import listening_client
from vm_webapp.redis_keys import CHANNEL, channel_of, earlier_channel_of, followers_of

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0
FOLLOWERS_EXPIRE_SECONDS = 3600


class WakeUps:
    """The subscription of this process to the runs that are followed.

    Args:
        url: the URL of Redis.
        fingerprint: returns whose runs these are, None while that cannot be read.
        wanted: returns the runs that are followed now.
        wake: called with a run and a piece of text that its model wrote, as JSON; "" if the run has changed.
    """

    def __init__(
        self,
        url: str,
        fingerprint: Callable[[], Awaitable[str | None]],
        wanted: Callable[[], Collection[UUID]],
        wake: Callable[[UUID, str], None],
    ) -> None:
        self._url = url
        self._fingerprint = fingerprint
        self._begun: set[UUID] = set()
        self._wanted = wanted
        self._wake = wake
        self._changed = asyncio.Event()
        self._subscribed: set[UUID] | None = None  # None while there is no connection
        self._last_error = ""

    @property
    def listening(self) -> bool:
        """Whether the subscription covers every run that is followed now."""
        return self._subscribed is not None and self._subscribed >= set(self._wanted())

    def note_change(self, begun: UUID | None = None) -> None:
        """Have the subscription adjusted, because the set of followed runs has changed.

        Args:
            begun: the run that nobody had followed, of whose text workers are to publish the beginning, too. It may
                have been followed until a moment ago, so that the subscription stays as it is.
        """
        if begun is not None:
            self._begun.add(begun)
        self._changed.set()

    async def listen(self) -> None:
        """Listen until canceled; reconnect when the connection breaks."""
        while True:
            try:
                fingerprint = await self._fingerprint()
                if fingerprint is None:
                    raise redis.ConnectionError("the database is not known")
                client = listening_client(self._url)
                async with client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    # The first SUBSCRIBE opens the connection, so it names a channel that nothing is published on.
                    await pubsub.subscribe(CHANNEL)
                    self._subscribed, self._last_error = set(), ""
                    await self._listen_on(client, pubsub, fingerprint)
            except (redis.RedisError, OSError) as error:
                self._log_once(type(error).__name__)
            except Exception:
                log.exception("followers.crashed")
            finally:
                self._subscribed = None
            await asyncio.sleep(RECONNECT_SECONDS)

    def _log_once(self, error: str) -> None:
        if error != self._last_error:  # a user without channels is refused at each try, once a second
            log.info("followers.redis_unavailable", extra={"error": error})
        self._last_error = error

    async def _listen_on(self, client: redis.asyncio.Redis, pubsub: PubSub, fingerprint: str) -> None:
        """Receive messages, and interrupt that to adjust the subscription whenever the set of followed runs changes."""
        changed = asyncio.create_task(self._changed.wait())
        try:
            while True:
                # Cleared before the set is read: a change after that sets the event again.
                self._changed.clear()
                await self._subscribe_as_wanted(pubsub, fingerprint)
                await self._announce(client, fingerprint)
                reading = asyncio.create_task(self._read(pubsub))
                try:
                    await asyncio.wait({reading, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    # Loses nothing: redis-py keeps the part of a message that it has read, and continues with it.
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
                self._dispatch(message)

    async def _subscribe_as_wanted(self, pubsub: PubSub, fingerprint: str) -> None:
        def channels(run_ids: Iterable[UUID]) -> list[str]:
            # Workers of the build before publish without the fingerprint.
            return [name for run in run_ids for name in (channel_of(fingerprint, run), earlier_channel_of(run))]

        subscribed, wanted = self._subscribed or set(), set(self._wanted())
        if new := wanted - subscribed:
            await pubsub.subscribe(*channels(new))
            self._begun |= new
        if unwanted := subscribed - wanted:
            await pubsub.unsubscribe(*channels(unwanted))
        self._subscribed = wanted

    async def _announce(self, client: redis.asyncio.Redis, fingerprint: str) -> None:
        """Show workers that somebody has begun to follow runs, now that what they publish is heard."""
        begun, self._begun = self._begun & (self._subscribed or set()), set()
        if not begun:
            return
        async with client.pipeline(transaction=False) as pipeline:
            for run_id in begun:
                pipeline.sadd(followers_of(fingerprint, run_id), uuid4().hex)
                pipeline.expire(followers_of(fingerprint, run_id), FOLLOWERS_EXPIRE_SECONDS)
            await pipeline.execute(raise_on_error=False)  # without the right to, streams still hear what comes

    def _dispatch(self, message: dict[str, Any]) -> None:
        name = message["channel"].decode().removeprefix(CHANNEL).rpartition(":")[2]
        with contextlib.suppress(ValueError):
            self._wake(UUID(name), message["data"].decode(errors="replace"))
