"""A Redis list that wakes idle workers: a worker takes a hint within milliseconds instead of at its next poll."""

from __future__ import annotations

import redis
from redis.client import Pipeline

MAX_ENTRIES = 64
EXPIRE_SECONDS = 60


class WakeList:
    """One list for all workers. Each push wakes one worker that waits, or the next one that does.

    Args:
        client: pushes and waits; its socket time-out must be longer than any wait.
        namespace: the prefix of the list's key.
        probe: a client with a shorter time-out, to find out whether Redis responds at all; ``client`` if None.
    """

    def __init__(self, client: redis.Redis, namespace: str, *, probe: redis.Redis | None = None) -> None:
        self._client = client
        self._probe = probe or client
        # The key keeps the text of earlier releases: during a deployment, processes of both releases wake each other's
        # workers through it.
        self._key = f"{namespace}:bell"

    def push(self) -> None:
        """Wake one worker.

        Raises:
            redis.RedisError: Redis does not respond, or refuses.
        """
        with self._client.pipeline(transaction=False) as pipeline:
            self.push_to(pipeline, 1)
            pipeline.execute()

    def push_to(self, pipeline: Pipeline, count: int) -> None:
        """Add the commands that wake so many workers to a pipeline.

        Entries that no worker takes are trimmed to the newest 64 and expire after a minute.
        """
        pipeline.lpush(self._key, *[1] * min(count, MAX_ENTRIES))
        # Busy workers pop nothing. A long list would later make idle workers fetch from an empty queue, in vain.
        pipeline.ltrim(self._key, 0, MAX_ENTRIES - 1)
        pipeline.expire(self._key, EXPIRE_SECONDS)

    def wait(self, seconds: float) -> bool:
        """Wait for a push, at most this long; return whether there was one.

        Raises:
            redis.RedisError: Redis does not respond, or refuses.
        """
        # BLPOP with a time-out of 0 would wait for ever.
        return self._client.blpop([self._key], timeout=max(seconds, 0.01)) is not None

    def responds(self) -> bool:
        """Return whether Redis responds within the probe's time-out."""
        try:
            return bool(self._probe.ping())
        except (redis.RedisError, OSError):
            return False
