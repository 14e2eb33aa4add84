"""Leases of duties that only one process may do at a time."""

from __future__ import annotations

import pytest

from tests.support.runs import read
from vm_webapp.db.pool import execute, transaction
from vm_webapp.fleet.duty_leases import HELD, DutyLease

pytestmark = pytest.mark.usefixtures("database")


class Clock:
    """A monotonic clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def lease(holder: str = "one", clock: Clock | None = None) -> DutyLease:
    return DutyLease("scale", holder, clock=clock or Clock())


def expire(seconds: float = -1) -> None:
    with transaction():
        execute(f"UPDATE duty_leases SET expires_at = clock_timestamp() + interval '{seconds} s'")


def fenced(held: DutyLease) -> bool:
    (found,) = read(f"SELECT {HELD} AS held", lease=held.name, token=held.token)
    return bool(found["held"])


def test_one_holds_it_and_the_other_does_not() -> None:
    one, two = lease("one"), lease("two")
    assert [one.hold(), two.hold(), one.hold({"min": 2})] == [True, False, True]
    assert (one.remaining_seconds, two.remaining_seconds) == (10, 0)
    assert (fenced(one), fenced(two)) == (True, False)
    assert read("SELECT holder, details FROM duty_leases") == [{"holder": "one", "details": {"min": 2}}]


def test_another_takes_it_over_when_it_has_expired() -> None:
    one, two = lease("one"), lease("two")
    assert one.hold()
    expire()
    assert two.hold()
    assert not one.hold()
    assert (one.remaining_seconds, fenced(one), fenced(two)) == (0, False, True)


def test_one_that_slept_and_takes_it_again_has_another_token() -> None:
    clock = Clock()
    one = lease(clock=clock)
    one.hold()
    before = one.token
    clock.now += 10
    expire()
    assert one.hold()
    assert one.token != before


def test_a_released_lease_can_be_taken_at_once() -> None:
    one, two = lease("one"), lease("two")
    one.hold()
    one.release()
    assert (one.remaining_seconds, two.hold()) == (0, True)
    one.release()
    assert fenced(two)


def test_a_lease_from_before_the_clock_stepped_back_holds_nobody_up() -> None:
    one, two = lease("one"), lease("two")
    one.hold()
    expire(3600)
    assert two.hold()
