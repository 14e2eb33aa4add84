"""Checks Redis: configured, reachable, and with a policy that does not evict hints."""

from __future__ import annotations

import redis

from vm_webapp.ops.doctor.check import Check, fail, ok, warn
from vm_webapp.ops.redis_permissions import KEYS, find_missing_permission
from vm_webapp.ops.redis_probe import PROBE_EXPIRE_SECONDS, PROBE_KEY
from vm_webapp.redis_client import quick_client
from vm_webapp.settings import Settings

TIMEOUT_SECONDS = 1.0
POLICY = "noeviction"


def check_redis(settings: Settings, redis_url: str | None) -> list[Check]:
    """Check whether Redis takes hints (the messages that say that a stage may be due), and its eviction policy."""
    if redis_url is None:
        if settings.managed:
            return [fail("redis", "VM_REDIS_URL is not set", "set VM_REDIS_URL on both services")]
        return [warn("redis", "there is none: work is found by polling", "set VM_REDIS_URL to have it found at once")]
    client = quick_client(redis_url, TIMEOUT_SECONDS)
    try:
        # A write, because a read-only replica or a full Redis responds to PING and still takes no hint.
        client.set(PROBE_KEY, 1, ex=PROBE_EXPIRE_SECONDS)
        missing = find_missing_permission(client)
        policy = None if missing else _read_policy(client)
    except redis.exceptions.NoPermissionError:
        missing, policy = f"SET on the keys {KEYS}", None
    except (redis.RedisError, OSError) as error:
        return [
            fail(
                "redis",
                f"it takes no hints ({type(error).__name__}): work goes on at the pace of the poll interval",
                'check VM_REDIS_URL and that Redis is up: redis-cli -u "$VM_REDIS_URL" ping',
            )
        ]
    finally:
        client.close()
    if missing:
        return [
            warn(
                "redis",
                f"it does not allow the user of VM_REDIS_URL {missing}: hints or open streams come late",
                "grant what docs/redis.md lists: its ACL SETUSER line is ready to paste",
            )
        ]
    return [ok("redis", "it takes hints"), _policy(policy)]


def _read_policy(client: redis.Redis) -> str | None:
    """Return the eviction policy; None if the user may not ask for it."""
    try:
        return str(client.info("memory").get("maxmemory_policy", "unknown"))
    except redis.exceptions.NoPermissionError:
        return None


def _policy(policy: str | None) -> Check:
    if policy is None:
        return ok("redis policy", f"unknown: the user of VM_REDIS_URL may not run INFO; it should be {POLICY}")
    if policy == POLICY:
        return ok("redis policy", policy)
    return warn(
        "redis policy",
        f"{policy}: hints may be evicted and then come late",
        f'redis-cli -u "$VM_REDIS_URL" config set maxmemory-policy {POLICY}, or set it where Redis is configured',
    )
