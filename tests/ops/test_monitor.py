"""The monitor responds at once, never with an old ready verdict, and ignores a single check that differs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from tests.support.waiting import eventually
from vm_webapp.ops.monitor import INTERVAL_SECONDS, STALE_SECONDS, Monitor


@dataclass(frozen=True)
class CommandResult:
    """A verdict."""

    ready: bool
    text: str = ""


HANGS = CommandResult(False, "the check hangs")


class Monitored:
    """A monitor whose checks return the given verdict after the given time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._next = (CommandResult(True), 0.0)
        self._monitor = Monitor(self._check, lambda: HANGS, lambda: self.now)

    def check(self, verdict: CommandResult, *, took: float = 0.0) -> CommandResult | None:
        """Check a second later; return the verdict that is shown then."""
        self.now += 1.0
        self._next = (verdict, took)
        self._monitor.check_once()
        return self.shown()

    def shown(self) -> CommandResult | None:
        """Return the verdict that is shown."""
        return self._monitor.latest()

    def _check(self) -> CommandResult:
        verdict, took = self._next
        self.now += took
        return verdict


GOOD, BAD = CommandResult(True, "good"), CommandResult(False, "bad")


def test_before_the_first_check_there_is_nothing_to_show() -> None:
    assert Monitored().shown() is None


@pytest.mark.parametrize("first", [GOOD, BAD])
def test_the_first_verdict_is_shown_at_once(first: CommandResult) -> None:
    assert Monitored().check(first) == first


@pytest.mark.parametrize(("before", "after"), [(GOOD, BAD), (BAD, GOOD)])
def test_the_verdict_changes_when_two_checks_in_a_row_agree(before: CommandResult, after: CommandResult) -> None:
    monitored = Monitored()
    shown = [monitored.check(verdict) for verdict in (before, after, before, after, after)]
    assert shown == [before, before, before, before, after]


def test_another_reason_is_shown_at_once() -> None:
    monitored = Monitored()
    monitored.check(BAD)
    assert monitored.check(CommandResult(False, "another")) == CommandResult(False, "another")


def test_a_check_that_hangs_is_reported_after_three_seconds() -> None:
    monitored = Monitored()
    monitored.check(GOOD)
    monitored.now += STALE_SECONDS
    assert monitored.shown() == GOOD
    monitored.now += 0.1
    assert monitored.shown() == HANGS


def test_a_bad_verdict_that_grows_old_keeps_its_reason() -> None:
    monitored = Monitored()
    monitored.check(BAD)
    monitored.now += 60
    assert monitored.shown() == BAD


def test_the_ready_verdict_of_a_check_that_hung_is_dropped() -> None:
    monitored = Monitored()
    monitored.check(GOOD)
    shown = [monitored.check(GOOD, took=20), monitored.check(BAD), monitored.check(GOOD), monitored.check(GOOD)]
    assert shown == [HANGS, BAD, BAD, GOOD]


def test_it_checks_on_its_own_thread_for_as_long_as_a_block_lasts() -> None:
    monitor = Monitor(lambda: GOOD, lambda: HANGS, lambda: 0.0)
    with monitor.running():
        eventually(lambda: monitor.latest() == GOOD, "the first verdict")


def test_at_a_start_it_checks_more_often_until_it_is_ready() -> None:
    checked: list[float] = []

    def check() -> CommandResult:
        checked.append(time.monotonic())
        return GOOD if len(checked) > 4 else BAD

    monitor = Monitor(check, lambda: HANGS, time.monotonic)
    with monitor.running():
        eventually(lambda: monitor.latest() == GOOD, "it is ready")
        eventually(lambda: len(checked) == 7, "it goes on", seconds=5)
    assert checked[5] - checked[0] < 5 * INTERVAL_SECONDS / 2
    assert checked[6] - checked[5] >= 0.9 * INTERVAL_SECONDS
