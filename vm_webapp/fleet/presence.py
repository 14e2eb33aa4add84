"""Workers' presence in Redis, in addition to their heartbeat rows: it shows an API that they use another database."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from typing import Any, cast
from uuid import UUID

import redis

from vm_webapp.circuit_breaker import CircuitBreaker

PREFIX = "vm:presence"
MEMBERS = f"{PREFIX}:workers"
EXPIRE_SECONDS = 10
ANNOUNCE_EVERY_SECONDS = 3.0
SKIP_AFTER_FAILURE_SECONDS = 5.0


class Presence:
    """The live workers, whichever database they use.

    Args:
        client: a client with short time-outs.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._redis = CircuitBreaker(SKIP_AFTER_FAILURE_SECONDS)
        self._announcing = threading.Lock()
        self._announced: tuple[dict[str, Any], float] | None = None

    def announce_soon(self, worker_id: UUID, facts: dict[str, Any]) -> None:
        """Like ``announce``, on a thread of its own.

        Does nothing if the same facts were announced within three seconds, or while an earlier call is in progress.
        """
        now = time.monotonic()
        if self._announced is not None:
            announced, at = self._announced
            if announced == facts and now - at < ANNOUNCE_EVERY_SECONDS:
                return
        # No time-out bounds how long a name takes to resolve, and the pulse must not wait for that.
        if not self._announcing.acquire(blocking=False):
            return

        self._announced = facts, now

        def announce() -> None:
            try:
                self.announce(worker_id, facts)
            finally:
                self._announcing.release()

        try:
            threading.Thread(target=announce, name="presence", daemon=True).start()
        except RuntimeError:  # the system allows no further thread now
            self._announcing.release()

    def announce(self, worker_id: UUID, facts: dict[str, Any]) -> None:
        """Announce that a worker is alive, for ten seconds. Errors of Redis are ignored.

        Args:
            worker_id: the worker.
            facts: JSON values; ``fingerprint`` identifies its database.
        """
        if self._redis.is_open:
            return
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.set(f"{PREFIX}:{worker_id}", json.dumps(facts), ex=EXPIRE_SECONDS)
                pipeline.sadd(MEMBERS, str(worker_id))
                pipeline.expire(MEMBERS, 6 * EXPIRE_SECONDS)
                pipeline.execute()
        except (redis.RedisError, OSError):
            self._redis.record_failure()

    def present(self) -> list[dict[str, Any]]:
        """Return the facts of every worker that announced itself within the last ten seconds.

        Raises:
            redis.RedisError: Redis could not be read.
        """
        # A set with the ids, because finding the keys by their prefix would scan the whole database.
        members = [name.decode() for name in cast(Iterable[bytes], self._client.smembers(MEMBERS))]
        if not members:
            return []
        values = cast("list[bytes | None]", self._client.mget([f"{PREFIX}:{name}" for name in members]))
        # The key of a worker expires by itself, but its entry in the set does not.
        gone = [name for name, value in zip(members, values, strict=True) if value is None]
        if gone:
            self._client.srem(MEMBERS, *gone)
        return [json.loads(value) for value in values if value is not None]
