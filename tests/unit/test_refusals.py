"""How many refusals are recorded, with the time passed in; and that noting one never waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.support.waiting import eventually
from vm_webapp.access.audit import refusals
from vm_webapp.access.audit.refusals import MOST_A_MINUTE, MOST_ADDRESSES, OTHERS, Refusal, RefusalCounts, RefusalLog
from vm_webapp.errors import DatabaseUnavailable

ONE = Refusal("unauthorized", "192.0.2.1", "GET /api/v2/runs", request_id="r1")


class Clock:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Written:
    """Receives what a log writes, or fails as it is told to."""

    def __init__(self) -> None:
        self.rows: list[Refusal] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, found: Sequence[Refusal]) -> None:
        self.gate.wait(10)
        if self.error:
            raise self.error
        self.rows += found


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def written() -> Written:
    """What was written."""
    return Written()


@pytest.fixture
def log(clock: Clock, written: Written) -> Iterator[RefusalLog]:
    """A log that writes to ``written``."""
    made = RefusalLog(written, clock=clock)
    yield made
    written.gate.set()
    made.close()


def test_ten_a_minute_are_recorded_and_then_one_with_the_count() -> None:
    counts = RefusalCounts()
    admitted = [counts.admit(ONE, 1000.0 + second) for second in range(50)]
    assert admitted == [ONE] * MOST_A_MINUTE + [None] * 40
    assert counts.take_over(1059.9) == []
    assert counts.take_over(1060.0) == [Refusal("unauthorized", "192.0.2.1", count=40)]
    assert counts.take_over(2000.0) == []
    assert counts.admit(ONE, 1061.0) == ONE


def test_ten_and_no_more_leave_no_count() -> None:
    counts = RefusalCounts()
    for _ in range(MOST_A_MINUTE):
        counts.admit(ONE, 0.0)
    assert counts.take_over(60.0) == []
    assert counts.seconds_left(60.0) is None


def test_each_address_and_each_reason_is_counted_on_its_own() -> None:
    counts = RefusalCounts()
    others = (Refusal("forbidden", ONE.address), Refusal(ONE.reason, "192.0.2.2"))
    for refusal in (ONE, *others):
        assert [counts.admit(refusal, 0.0) for _ in range(11)].count(None) == 1
    assert {(each.reason, each.address, each.count) for each in counts.take_over(60.0)} == {
        ("unauthorized", "192.0.2.1", 1),
        ("forbidden", "192.0.2.1", 1),
        ("unauthorized", "192.0.2.2", 1),
    }


def test_a_flood_from_many_addresses_takes_bounded_memory_and_few_rows() -> None:
    counts = RefusalCounts()
    admitted = [counts.admit(Refusal("unauthorized", f"2001:db8::{number:x}"), 0.0) for number in range(50_000)]
    recorded = [each for each in admitted if each is not None]
    assert len(counts._windows) == MOST_ADDRESSES + 1
    assert len(recorded) == MOST_ADDRESSES + MOST_A_MINUTE
    assert [each.address for each in recorded[-MOST_A_MINUTE:]] == [OTHERS] * MOST_A_MINUTE
    (more,) = counts.take_over(60.0)
    assert (more.address, more.count) == (OTHERS, 50_000 - len(recorded))


def test_what_has_no_room_to_wait_is_counted() -> None:
    counts = RefusalCounts()
    assert counts.admit(ONE, 0.0, room=False) is None
    assert counts.take_over(60.0) == [Refusal("unauthorized", "192.0.2.1", count=1)]


def test_a_refusal_is_written_at_once_and_the_count_when_the_minute_is_over(
    log: RefusalLog, clock: Clock, written: Written
) -> None:
    for _ in range(30):
        log.note(ONE)
    eventually(lambda: len(written.rows) == MOST_A_MINUTE, "ten are written")
    clock.now += 60
    log.note(Refusal("forbidden", "192.0.2.9"))  # wakes the writer, whose clock stands still
    eventually(lambda: len(written.rows) == MOST_A_MINUTE + 2, "the count is written")
    assert [each.count for each in written.rows if each.reason == "unauthorized"] == [1] * MOST_A_MINUTE + [20]


def test_the_minute_ends_without_a_further_refusal(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "WINDOW_SECONDS", 0.2)
    log = RefusalLog(written)
    for _ in range(12):
        log.note(ONE)
    eventually(lambda: [each.count for each in written.rows] == [1] * 10 + [2], "the count is written")
    eventually(lambda: log._thread is None, "the thread ends where nothing is left to count")
    log.note(ONE)
    eventually(lambda: len(written.rows) == 12, "the next one is written")
    log.close()


def test_a_shutdown_writes_the_counts_of_minutes_that_are_not_over(log: RefusalLog, written: Written) -> None:
    for _ in range(15):
        log.note(ONE)
    log.close()
    assert [each.count for each in written.rows] == [1] * MOST_A_MINUTE + [5]
    log.close()
    assert len(written.rows) == MOST_A_MINUTE + 1


def test_noting_waits_neither_for_the_database_nor_for_the_writer(log: RefusalLog, written: Written) -> None:
    written.gate.clear()
    log.note(ONE)
    began = time.process_time()
    for number in range(5000):
        log.note(Refusal("unauthorized", f"2001:db8::{number:x}"))
    assert time.process_time() - began < 1.0
    assert written.rows == []
    assert len(log._waiting) <= refusals.MOST_WAITING
    written.gate.set()
    log.close()
    assert sum(each.count for each in written.rows) == 5001


def test_without_the_database_refusals_go_to_the_log(
    log: RefusalLog, clock: Clock, written: Written, caplog: pytest.LogCaptureFixture
) -> None:
    written.error = DatabaseUnavailable("connection to server at postgres://user:hidden@host failed")
    for _ in range(12):
        log.note(ONE)
    log.close()
    lines = [record for record in caplog.records if record.message == "audit.refused"]
    assert [(vars(line)["address"], vars(line)["count"]) for line in lines] == [("192.0.2.1", 1)] * 10 + [
        ("192.0.2.1", 2)
    ]
    assert vars(lines[0])["reason"] == "unauthorized"
    assert "hidden" not in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
