"""The sender to Redis never blocks its callers and never raises; what waits goes together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from actors import sender as module
from actors.sender import Lane, Sender
from tests.support.waiting import eventually


class Recorder:
    """A sender with one lane, whose rounds are recorded; ``fail_with`` is raised instead, once."""

    def __init__(self, *, rest_seconds: float = 0.0) -> None:
        self.rounds: list[list[str]] = []
        self.fail_with: Exception | None = None
        self.refused: set[str] = set()
        self.taken: list[str] = []
        self.began, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.lane: Lane[str] = Lane(self.send, rest_seconds=rest_seconds)
        self.sender = Sender(self.lane)

    def put(self, *items: str) -> None:
        for item in items:
            self.sender.put(self.lane, item, key=item)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the thread busy for the block with a round of its own, so that what is put within it waits."""
        self.began.clear()
        self.go_on.clear()
        self.put("held")
        assert self.began.wait(5)
        try:
            yield
        finally:
            self.go_on.set()

    def send(self, items: list[str]) -> list[redis.ResponseError]:
        self.began.set()
        assert self.go_on.wait(5)
        error, self.fail_with = self.fail_with, None
        if error is not None:
            raise error
        self.rounds.append(items)
        return [redis.exceptions.NoPermissionError("refused") for item in items if item in self.refused]


class Clock:
    """Monotonic seconds that a test sets."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def levels_of(event: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the levels at which an event was logged."""
    return [record.levelname for record in caplog.records if record.message == event]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Make the start of every thread fail until this is undone."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as refusing:
        refusing.setattr(threading.Thread, "start", refuse)
        yield refusing


def test_without_a_thread_a_hint_is_dropped_and_the_next_one_tries_again(
    recorder: Recorder, no_threads: pytest.MonkeyPatch
) -> None:
    recorder.put("no thread to send it")
    assert recorder.sender.failed == 1
    no_threads.undo()
    recorder.put("a hint")
    assert recorder.sender.flush(5)
    assert (recorder.sender.failed, recorder.rounds) == (1, [["a hint"]])


def test_what_waits_behind_a_failure_is_dropped_and_counted_with_it(recorder: Recorder) -> None:
    recorder.fail_with = redis.ConnectionError()
    with recorder.held():
        recorder.put("1", "2", "3")
    assert recorder.sender.flush(5)
    assert (recorder.sender.failed, recorder.rounds) == (4, [])
    recorder.put("Redis has just failed")
    assert (recorder.sender.failed, recorder.rounds) == (5, [])


def test_a_send_that_fails_once_is_no_outage(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    recorder.fail_with = redis.TimeoutError()
    recorder.put("too slow")
    assert recorder.sender.flush(5)
    assert levels_of("redis.send_failed", caplog) == ["INFO"]


def test_an_outage_is_a_warning_once_when_it_lasts(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    recorder.sender = Sender(recorder.lane, clock=clock)
    for _ in range(2):
        for _ in range(7):
            recorder.fail_with = redis.ConnectionError()
            recorder.put("a hint")
            assert recorder.sender.flush(5)
            clock.seconds += 2
        assert levels_of("redis.send_failed", caplog) == ["INFO"] * 5 + ["WARNING", "INFO"]
        recorder.put("Redis responds")
        assert recorder.sender.flush(5)
        assert levels_of("redis.sent_again", caplog) == ["INFO"]
        caplog.clear()


def test_a_crash_costs_one_round_and_not_the_thread(recorder: Recorder) -> None:
    recorder.fail_with = IndexError()
    recorder.put("crashes")
    assert recorder.sender.flush(5)
    recorder.put("a hint")
    assert recorder.sender.flush(5)
    assert (recorder.sender.failed, recorder.rounds) == (0, [["a hint"]])


def test_what_redis_refuses_drops_nothing_else_and_is_logged_once(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.refused = {"1", "3"}
    recorder.put("1", "2", "3")
    assert recorder.sender.flush(5)
    recorder.put("4")
    assert recorder.sender.flush(5)
    assert recorder.sender.failed == 2
    assert [item for sent in recorder.rounds for item in sent] == ["1", "2", "3", "4"]
    assert caplog.messages.count("redis.send_refused") == 1


def test_what_waits_goes_together_and_of_two_with_one_key_the_later(recorder: Recorder) -> None:
    with recorder.held():
        recorder.put("1", "2", "1")
    assert recorder.sender.flush(5)
    assert recorder.rounds == [["held"], ["2", "1"]]


def test_a_round_begins_after_the_rest_and_another_lane_does_not_wait_for_it() -> None:
    recorder = Recorder(rest_seconds=3600.0)
    other = Recorder()
    sender = recorder.sender = Sender(recorder.lane, other.lane)
    recorder.put("the first does not wait")
    assert sender.flush(5)
    recorder.put("waits")
    assert not sender.flush(0.05), "sent before its time"
    sender.put(other.lane, "a hint", key="a hint")
    eventually(lambda: other.rounds == [["a hint"]], "the other lane's round")


def test_what_waits_is_sent_when_its_time_has_come() -> None:
    recorder = Recorder(rest_seconds=0.05)
    recorder.put("1")
    assert recorder.sender.flush(5)
    recorder.put("2", "3")
    assert recorder.sender.flush(5)
    assert recorder.rounds == [["1"], ["2", "3"]]


def test_more_than_fit_are_dropped_and_counted(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED", 3)
    with recorder.held():
        recorder.put(*"12345")
        assert recorder.sender.failed == 2
    assert recorder.sender.flush(5)
    assert recorder.rounds == [["held"], ["1", "2", "3"]]


class TestOffering:
    @pytest.fixture
    def offering(self) -> Recorder:
        """A recorder whose lane takes what is offered, until ``taken`` has three."""
        recorder = Recorder()

        def offer(item: str) -> bool:
            if len(recorder.taken) == 3:
                return False
            recorder.taken.append(item)
            return True

        recorder.lane = Lane(recorder.send, rest_seconds=0.0, offer=offer)
        recorder.sender = Sender(recorder.lane)
        return recorder

    def test_what_is_offered_goes_at_once_and_what_became_of_it_is_learned_in_a_round(self, offering: Recorder) -> None:
        offering.put("1", "2")
        assert offering.taken == ["1", "2"]
        assert offering.sender.flush(5)
        assert offering.rounds[-1] == []

    def test_a_round_comes_by_itself(self, offering: Recorder) -> None:
        offering.put("1")
        eventually(lambda: offering.rounds == [[]], "the round", seconds=2)

    def test_what_is_not_taken_waits_for_a_round(self, offering: Recorder) -> None:
        offering.put(*"12345")
        assert offering.sender.flush(5)
        assert offering.taken == ["1", "2", "3"]
        assert [item for sent in offering.rounds for item in sent] == ["4", "5"]

    def test_what_was_offered_to_a_redis_that_failed_is_counted(self, offering: Recorder) -> None:
        offering.fail_with = redis.ConnectionError()
        offering.put("1", "2")
        assert offering.sender.flush(5)
        assert offering.sender.failed == 2
        offering.put("Redis has just failed")
        assert (offering.taken, offering.sender.failed) == (["1", "2"], 3)

    def test_within_a_rest_they_go_together(self, offering: Recorder) -> None:
        offering.lane.rest_seconds = 0.05
        offering.put("1", "2", "3")
        assert offering.sender.flush(5)
        assert (offering.taken, offering.rounds) == (["1"], [["2", "3"]])
