"""The sender to Redis never blocks its callers and never raises; notices go together, and equal ones once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
import redis

from actors import sender as module
from actors.sender import Notice, Sender
from tests.support.redis_users import set_user
from tests.support.waiting import eventually
from vm_webapp.redis_client import quick_client


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Make the start of every thread fail until this is undone."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as refusing:
        refusing.setattr(threading.Thread, "start", refuse)
        yield refusing


def test_without_a_thread_a_hint_is_dropped_and_the_next_one_tries_again(no_threads: pytest.MonkeyPatch) -> None:
    sender, sent = Sender(), Future[None]()
    sender.put(lambda: pytest.fail("no thread to send it"))
    assert sender.failed == 1
    no_threads.undo()
    sender.put(lambda: sent.set_result(None))
    sent.result(5)
    assert (sender.failed, sender.flush(5)) == (1, True)


def test_what_waits_behind_a_failure_is_dropped_and_counted_with_it() -> None:
    sender, began, go_on = Sender(), threading.Event(), threading.Event()

    def fail() -> None:
        began.set()
        go_on.wait(5)
        raise redis.ConnectionError

    sender.put(fail)
    assert began.wait(5)
    for _ in range(3):
        sender.put(lambda: pytest.fail("Redis has just failed"))
    go_on.set()
    assert sender.flush(5)
    assert sender.failed == 4


def test_a_crash_costs_one_hint_and_not_the_thread() -> None:
    sender, sent = Sender(), Future[None]()
    sender.put(lambda: [][0])
    sender.put(lambda: sent.set_result(None))
    sent.result(5)
    assert sender.failed == 0


def test_what_redis_refuses_drops_nothing_else_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    sender, sent = Sender(), Future[None]()

    def refuse() -> None:
        raise redis.exceptions.NoPermissionError("no permissions to access a channel")

    for _ in range(3):
        sender.put(refuse)
    sender.put(lambda: sent.set_result(None))
    sent.result(5)
    assert sender.flush(5)
    sender.put(lambda: None)
    assert sender.flush(5)
    assert sender.failed == 3
    assert caplog.messages.count("redis.send_refused") == 1


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of a real Redis, connected; Redis counts anew."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as connected:
        connected.config_resetstat()
        yield connected


@contextmanager
def held(sender: Sender) -> Iterator[None]:
    """Keep the sender's thread busy for the block, so that what is sent within it waits."""
    began, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        go_on.wait(5)

    sender.put(hold)
    assert began.wait(5)
    yield
    go_on.set()


class TestNotices:
    def test_those_that_wait_are_published_in_one_round_trip_and_equal_ones_once(self, client: redis.Redis) -> None:
        sender = Sender()
        with client.pubsub(ignore_subscribe_messages=True) as listener:
            listener.psubscribe("vm:run:*")
            with held(sender):
                for text in ("", "a piece", ""):
                    for run in ("1", "2"):
                        sender.publish(Notice(client, f"vm:run:{run}", text))
                before = client.info("stats")["total_reads_processed"]
            assert sender.flush(5)
            assert client.info("stats")["total_reads_processed"] - before == 1 + 1, "the notices, and this question"
            heard = [listener.get_message(timeout=5) for _ in range(1 + 4)]  # the first confirms the subscription
        assert published(client) == 4
        # A change comes after the text that was published before it.
        assert [(message["channel"][-1], message["data"]) for message in heard if message] == [
            ("1", "a piece"),
            ("2", "a piece"),
            ("1", ""),
            ("2", ""),
        ]

    def test_the_first_after_a_pause_and_a_hint_do_not_wait(
        self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "REST_SECONDS", 3600.0)
        sender, hint = Sender(), Future[None]()
        sender.publish(Notice(client, "vm:run:1", ""))
        assert sender.flush(5)
        sender.publish(Notice(client, "vm:run:1", ""))
        assert not sender.flush(0.05), "published before its time"
        sender.put(lambda: hint.set_result(None))
        hint.result(5)

    def test_what_waits_is_published_when_its_time_has_come(self, client: redis.Redis) -> None:
        sender = Sender()
        for number in range(3):
            sender.publish(Notice(client, f"vm:run:{number}", ""))
        assert sender.flush(5)
        assert published(client) == 3

    def test_what_redis_refuses_drops_no_other(self, client: redis.Redis, redis_url: str) -> None:
        limited = set_user(redis_url, "limited", ["resetchannels", "&vm:run:1", "+@all"])
        with redis.Redis.from_url(limited) as refused:
            sender = Sender()
            with held(sender):
                for run in ("0", "1", "2"):
                    sender.publish(Notice(refused, f"vm:run:{run}", ""))
            assert sender.flush(5)
        assert sender.failed == 2
        assert sender.is_heard("vm:run:0"), "a refusal says nothing of listeners"
        assert not sender.is_heard("vm:run:1")

    def test_those_that_meet_a_failure_are_counted_one_by_one(self) -> None:
        sender, gone = Sender(), quick_client("unix:///nonexistent/redis.sock", 1.0)
        with held(sender):
            for run in range(4):
                sender.publish(Notice(gone, f"vm:run:{run}", ""))
        assert sender.flush(5)
        sender.publish(Notice(gone, "vm:run:1", ""))
        assert sender.failed == 5

    def test_more_than_fit_are_dropped_and_counted(self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_QUEUED", 3)
        sender = Sender()
        with held(sender):
            for run in range(5):
                sender.publish(Notice(client, f"vm:run:{run}", ""))
            assert sender.failed == 2
        assert sender.flush(5)
        assert published(client) == 3

    def test_it_is_known_whether_the_last_one_was_heard(
        self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_QUEUED", 2)
        sender = Sender()

        def heard_after_a_notice(channel: str = "vm:run:1") -> bool:
            sender.publish(Notice(client, channel, ""))
            assert sender.flush(5)
            return sender.is_heard(channel)

        assert sender.is_heard("vm:run:1"), "nothing has been published"
        assert not heard_after_a_notice()
        with client.pubsub() as listener:
            listener.subscribe("vm:run:1")
            eventually(lambda: client.pubsub_numsub("vm:run:1") == [("vm:run:1", 1)], "the subscription")
            assert heard_after_a_notice()
        eventually(lambda: not heard_after_a_notice(), "the end of the subscription")
        # Channels are forgotten, the oldest first: runs come and go for as long as the process lives.
        for run in ("2", "3"):
            assert not heard_after_a_notice(f"vm:run:{run}")
        assert sender.is_heard("vm:run:1")


def published(client: redis.Redis) -> int:
    """Return how many notices Redis has got since the test began."""
    calls: int = client.info("commandstats")["cmdstat_publish"]["calls"]
    return calls
