"""Redis is probed on a thread of its own, so that a Redis that hangs does not make the database look down."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import redis

from tests.ops.readiness import Clock, checker
from tests.support.fleet import beat
from tests.support.resolver import hanging_resolver
from vm_webapp.fleet.presence import Presence
from vm_webapp.ops.monitor import STALE_SECONDS
from vm_webapp.ops.redis_probe import WAIT_SECONDS, RedisProbe
from vm_webapp.redis_client import quick_client


@pytest.mark.usefixtures("database")
def test_a_name_that_does_not_resolve_leaves_the_api_ready() -> None:
    beat()
    own = checker(Clock(), "redis://redis.internal:6379/0")
    with hanging_resolver() as asked:
        for most_seconds in (STALE_SECONDS, WAIT_SECONDS):  # the second does not wait again
            began = time.monotonic()
            health = own.check()
            assert time.monotonic() - began < most_seconds
            assert health.ready
            assert health.dependencies["redis"]["status"] == "degraded"
        assert asked.is_set()


def test_a_full_redis_still_shows_which_databases_are_used(redis_url: str) -> None:
    Presence(quick_client(redis_url, 1.0)).announce(uuid4(), {"fingerprint": "another"})
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1")
        try:
            status = RedisProbe(redis_url).probe()
        finally:
            client.config_set("maxmemory", "0")
    assert (status.error, status.databases) == ("OutOfMemoryError", frozenset({"another"}))


def test_checks_at_the_same_time_take_turns(redis_url: str) -> None:
    probe = RedisProbe(redis_url)
    with ThreadPoolExecutor(8) as threads:
        statuses = [each.result() for each in [threads.submit(probe.probe) for _ in range(8)]]
    assert [status.error for status in statuses] == [None] * 8
