"""The clock of Redis, by which the processes that send and take hints tell the age of a hint."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis

READ_EVERY_SECONDS = 10.0


class RedisClock:
    """The time by Redis' clock, which is the same for all processes; the clocks of their machines differ.

    Args:
        client: asks Redis for its time; between two readings ``monotonic`` counts.
        monotonic: monotonic seconds.
    """

    def __init__(self, client: redis.Redis, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._monotonic = monotonic
        self._read_at: float | None = None
        self._ahead = 0.0  # of ``monotonic``

    @property
    def is_set(self) -> bool:
        """Whether the clock was ever read."""
        return self._read_at is not None

    @property
    def is_old(self) -> bool:
        """Whether the clock was read more than ten seconds ago, or never."""
        return self._read_at is None or self._monotonic() - self._read_at >= READ_EVERY_SECONDS

    def now(self) -> float:
        """Return the seconds since 1970; read the clock if that was never done.

        Raises:
            redis.RedisError: Redis does not respond, or refuses.
        """
        if self._read_at is None:
            self.read()
        return self._monotonic() + self._ahead

    def read(self) -> None:
        """Read the clock.

        Raises:
            redis.RedisError: Redis does not respond, or refuses.
        """
        self.set(self._client.time())

    def set(self, reply: tuple[int, int]) -> None:
        """Take the time from the reply to a TIME that has just come."""
        self._read_at = self._monotonic()
        self._ahead = reply[0] + reply[1] / 1e6 - self._read_at
