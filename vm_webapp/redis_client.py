"""Redis clients with short time-outs and without retries: no part of the program may depend on Redis."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

MOST_CONNECTIONS = 64
# Each connection would tell Redis the version of redis-py in two commands, and the first one would look it up in the
# packages that are installed, for which it imports 15 modules.
UNTOLD: dict[str, Any] = {"driver_info": None}


def quick_client(url: str, timeout_seconds: float) -> redis.Redis:
    """Return a client that gives up after a time.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout_seconds: time limit for connecting, and for each reply.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        max_connections=MOST_CONNECTIONS,
        retry=Retry(NoBackoff(), 0),
        **UNTOLD,
    )


def listening_client(url: str) -> redis.asyncio.Redis:
    """Return a client for subscriptions: a read waits without limit, and TCP keep-alives detect a dead connection."""
    alive = {} if url.startswith("unix:") else {"socket_keepalive": True}
    return redis.asyncio.Redis.from_url(url, socket_connect_timeout=1.0, **alive, **UNTOLD)
