"""Commands that are sent to Redis without waiting, and what became of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import redis

from actors.quick_line import MOST_UNANSWERED, QuickLine
from tests.chaos.harness import own_redis
from tests.support.processes import frozen
from tests.support.redis_users import set_user
from tests.support.waiting import eventually
from vm_webapp.redis_client import quick_client

KEY = "line"
ADD = [("INCR", KEY)]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of a real Redis without the key."""
    with quick_client(redis_url, 0.1) as connected:
        connected.delete(KEY)
        yield connected


@pytest.fixture
def line(client: redis.Redis) -> QuickLine:
    """An open line."""
    made = QuickLine(client)
    made.open()
    return made


def test_before_it_is_open_nothing_is_sent(client: redis.Redis) -> None:
    line = QuickLine(client)
    assert not line.offer(ADD)
    assert line.collect() == []


def test_replies_come_later_round_by_round(client: redis.Redis, line: QuickLine) -> None:
    assert line.offer(ADD)
    assert line.offer([*ADD, *ADD])
    eventually(lambda: client.get(KEY) == b"3", "Redis has them")
    assert line.collect() == [[1], [2, 3]]
    assert line.collect() == []


def test_an_error_of_redis_stands_in_place_of_its_reply(redis_url: str) -> None:
    line = QuickLine(quick_client(set_user(redis_url, "counting", ["~*", "+incr", "+client|setinfo"]), 0.1))
    line.open()
    assert line.offer([*ADD, ("DEL", KEY), *ADD])
    ((first, refused, third),) = line.collect()
    assert third == first + 1
    assert isinstance(refused, redis.exceptions.NoPermissionError)


def test_so_many_are_sent_that_no_send_waits_for_redis() -> None:
    with own_redis() as server, quick_client(server.url, 0.1) as client:
        pid = int(client.info("server")["process_id"])
        line = QuickLine(client)
        line.open()
        with frozen([pid]):
            sent = [line.offer([("SET", KEY, b"x" * 400)]) for _ in range(MOST_UNANSWERED + 5)]
            # One that waited for Redis would have failed, when the client's time is over.
            assert sent == [True] * MOST_UNANSWERED + [False] * 5
            with pytest.raises(redis.RedisError):
                line.collect()
        assert not line.offer(ADD)
        line.open()
        assert line.offer(ADD)


def test_a_connection_that_redis_has_closed_is_noticed_before_it_is_used(client: redis.Redis, line: QuickLine) -> None:
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    time.sleep(0.1)  # the end of the connection needs a moment to arrive
    assert not line.offer(ADD)
    assert line.collect() == []
    line.open()
    assert line.offer(ADD)


def test_a_connection_of_the_parent_is_left_alone(line: QuickLine, monkeypatch: pytest.MonkeyPatch) -> None:
    forked = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: forked)
    assert not line.offer(ADD)
    assert line.collect() == []
