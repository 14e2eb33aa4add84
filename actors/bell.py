"""A Redis list that wakes idle workers: a hint is taken in milliseconds instead of at the next poll."""

from __future__ import annotations

import redis

MOST_RINGS = 64
EXPIRE_SECONDS = 60


class Bell:
    """One bell for all workers; each ring wakes one of them.

    Args:
        client: rings and waits; its time-out must be longer than any wait.
        namespace: keeps this bell apart from others.
        probe: a client that gives up sooner, to find out whether Redis answers at all; ``client`` where there is none.
    """

    def __init__(self, client: redis.Redis, namespace: str, *, probe: redis.Redis | None = None) -> None:
        self._client = client
        self._probe = probe or client
        self._key = f"{namespace}:bell"

    def ring(self) -> None:
        """Ring once. Rings that nobody waits for are few and short-lived."""
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.lpush(self._key, 1)
            pipeline.ltrim(self._key, 0, MOST_RINGS - 1)
            pipeline.expire(self._key, EXPIRE_SECONDS)
            pipeline.execute()

    def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most this long; return whether it came.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        return self._client.blpop([self._key], timeout=max(seconds, 0.01)) is not None

    def answers(self) -> bool:
        """Whether Redis answers, and quickly."""
        try:
            return bool(self._probe.ping())
        except (redis.RedisError, OSError):
            return False
