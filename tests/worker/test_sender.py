"""The sender to Redis never blocks its callers and never raises."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
import redis

from actors.sender import Sender


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
