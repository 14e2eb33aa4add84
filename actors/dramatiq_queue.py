"""The queue of Dramatiq's own broker in Redis: messages of other programs, and those of the build before this one.

Both use the queue's keys as Dramatiq's ``dispatch.lua`` does; ``tests/worker/test_dramatiq_contract.py`` checks them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.message import Message

from vm_webapp.fleet.presence import Presence
from vm_webapp.redis_keys import PREFIX

QUEUE = "stages"
EXPIRE_SECONDS = 3600
ASK_EVERY_SECONDS = 10.0
MAX_WAKE_UPS = 64
WAKE_UP_EXPIRE_SECONDS = 60


class DramatiqQueue:
    """Takes messages that were sent with Dramatiq's own broker.

    Args:
        client: reads them.
        namespace: the namespace of that broker.

    Attributes:
        list: the key of the list whose entries name the messages.
    """

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self.list = f"{namespace}:{QUEUE}"
        self._client = client
        self._bodies = f"{self.list}.msgs"
        self._heartbeats = f"{namespace}:__heartbeats__"
        self._acks = f"{namespace}:__acks__"

    def take(self, entry: bytes) -> bytes:
        """Take the message that an entry of the list names out of Redis; empty if there is none.

        Raises:
            redis.RedisError: Redis does not respond, or refuses.
        """
        with self._client.pipeline(transaction=False) as pipeline:
            # Dramatiq writes the name as text, so one that is not is no name of a message.
            pipeline.hget(self._bodies, cast(str, entry))
            pipeline.hdel(self._bodies, cast(str, entry))
            self._expire(pipeline, self.list, self._bodies)
            body = pipeline.execute()[0]
        return bytes(body or b"")

    def let_expire(self) -> None:
        """Give what workers of the build before have left an hour to live.

        Raises:
            redis.RedisError: Redis does not respond, or refuses.
        """
        workers = cast(Iterable[bytes], self._client.zrangebyscore(self._heartbeats, 0, "+inf"))
        acks = [f"{self._acks}.{worker.decode()}.{QUEUE}" for worker in workers]
        with self._client.pipeline(transaction=False) as pipeline:
            self._expire(pipeline, self.list, self._bodies, f"{self.list}.XQ", f"{self.list}.XQ.msgs", *acks)
            self._expire(pipeline, self._heartbeats)
            pipeline.execute()

    @staticmethod
    def _expire(pipeline: redis.client.Pipeline, *keys: str) -> None:
        for key in keys:
            pipeline.expire(key, EXPIRE_SECONDS)


class EarlierWorkers:
    """The workers of the build before this one, which take hints under keys that all databases share.

    Args:
        client: sends to them.
        monotonic: monotonic seconds.
    """

    def __init__(self, client: redis.Redis, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._presence = Presence(client)
        self._broker = RedisBroker(client=client, namespace=PREFIX, middleware=[])
        self._monotonic = monotonic
        self._asked_at: float | None = None
        self._present = False

    @property
    def were_present(self) -> bool:
        """Whether there were any when Redis was asked last; True before that."""
        return self._present or self._asked_at is None

    def present(self, fingerprint: str) -> bool:
        """Return whether there are any on a database; Redis is asked every ten seconds at most.

        Raises:
            redis.RedisError: Redis does not respond, or refuses.
        """
        now = self._monotonic()
        if self._asked_at is None or now - self._asked_at >= ASK_EVERY_SECONDS:
            self._asked_at = now
            self._present = any(
                facts.get("fingerprint") == fingerprint and "hints" not in facts for facts in self._presence.present()
            )
        return self._present

    def send(self, hints: list[Message[Any]]) -> None:
        """Send hints as the build before did, and wake as many of its workers.

        Raises:
            redis.RedisError: Redis does not respond, or refuses.
        """
        for hint in hints:
            self._broker.enqueue(hint)
        bell = f"{PREFIX}:bell"
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.lpush(bell, *[1] * min(len(hints), MAX_WAKE_UPS))
            pipeline.ltrim(bell, 0, MAX_WAKE_UPS - 1)
            pipeline.expire(bell, WAKE_UP_EXPIRE_SECONDS)
            pipeline.execute()
