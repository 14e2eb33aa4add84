"""The clock of Redis, by which the processes that send and take hints tell the age of a hint."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis

READ_EVERY_SECONDS = 10.0


class RedisClock:
    """The time by Redis' clock, which is the same for all processes; the clocks of their machines differ.

    Args:
        client: asks Redis for its time, every ten seconds at most; between, ``monotonic`` counts.
        monotonic: monotonic seconds.
    """

    def __init__(self, client: redis.Redis, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._monotonic = monotonic
        self._read_at: float | None = None
        self._ahead = 0.0  # of ``monotonic``

    def now(self) -> float:
        """Return the seconds since 1970.

        Raises:
            redis.RedisError: Redis does not respond, or refuses.
        """
        at = self._monotonic()
        if self._read_at is None or at - self._read_at >= READ_EVERY_SECONDS:
            seconds, microseconds = self._client.time()
            self._read_at, self._ahead = at, seconds + microseconds / 1e6 - at
        return at + self._ahead
