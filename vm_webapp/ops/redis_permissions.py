"""What a Redis user must be allowed to do for this program, and the check for what is missing.

``docs/redis.md`` has the same as an ``ACL SETUSER`` line.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import redis

from vm_webapp.redis_keys import CHANNEL

KEYS = "vm and vm:*"
CHANNELS = f"{CHANNEL}*"

_KEY = f"vm:probe:{uuid4().hex}"  # another process that checks at this moment must not change its type
_NAMESPACE = "vm"  # Dramatiq passes it to its scripts as if it were a key
_CHANNEL = f"{CHANNEL}probe"  # no run has this name, so nobody listens to it
_NO_SCRIPT = "0" * 40
# Each command that the program or Dramatiq's scripts run, so that it leaves no key behind. Only KEYS is not tried: it
# would scan the whole of a Redis that others use, too.
_COMMANDS: tuple[tuple[Any, ...], ...] = (
    ("SET", _KEY, 1, "EX", 60),
    ("EXPIRE", _KEY, 60),
    ("MGET", _KEY),
    ("DEL", _KEY),
    ("LPUSH", _KEY, 1),
    ("RPUSH", _KEY, 1),
    ("LPOP", _KEY),
    ("BLPOP", _KEY, 0.01),
    ("LTRIM", _KEY, 1, 0),
    ("SADD", _KEY, 1),
    ("SMEMBERS", _KEY),
    ("SREM", _KEY, 1),
    ("HSET", _KEY, 1, 1),
    ("HGET", _KEY, 1),
    ("HMGET", _KEY, 1),
    ("HEXISTS", _KEY, 1),
    ("HDEL", _KEY, 1),
    ("ZADD", _KEY, 1, 1),
    ("ZRANGEBYSCORE", _KEY, 0, 1),
    ("ZREM", _KEY, 1),
    ("TIME",),
    ("EVALSHA", _NO_SCRIPT, 1, _NAMESPACE),
    ("SCRIPT LOAD", "return 1"),
    ("PUBLISH", _CHANNEL, ""),
)


def find_missing_permission(client: redis.Redis) -> str | None:
    """Return what Redis does not allow the client's user, such as ``PUBLISH on the channels vm:run:*``; None if all is.

    Raises:
        redis.RedisError: Redis does not respond.
    """
    with client.pipeline(transaction=False) as pipeline:
        for command in _COMMANDS:
            pipeline.execute_command(*command)
        responses = pipeline.execute(raise_on_error=False)
    for (name, *arguments), response in zip(_COMMANDS, responses, strict=True):
        if isinstance(response, redis.exceptions.NoPermissionError):
            return str(name) + _of_what(arguments)
    try:
        with client.pubsub() as listener:
            listener.subscribe(_CHANNEL)
            listener.get_message(timeout=0.1)
    except redis.exceptions.NoPermissionError:
        return f"SUBSCRIBE{_of_what([_CHANNEL])}"
    return None


def _of_what(arguments: list[Any]) -> str:
    if {_KEY, _NAMESPACE} & {*arguments}:
        return f" on the keys {KEYS}"
    return f" on the channels {CHANNELS}" if _CHANNEL in arguments else ""
