"""A process's part of a limit, without the database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vm_webapp.access.allowance import ASSUMED_PROCESSES, REQUESTS_PER_TRIP, Allowance, Plan
from vm_webapp.access.rate_windows import Taken

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN = Plan.of(6000, 2)


def spend(allowance: Allowance, requests: int, *, now: float = 0.0) -> int:
    """Return how many of these requests were admitted."""
    return sum(allowance.spend(now) for _ in range(requests))


def take(allowance: Allowance, *, left: int = 6000, seconds: float = 60.0, now: float = 0.0) -> int:
    """Take a portion of a counter on which this much is left; return how much was asked for."""
    wanted = allowance.ask()
    granted = min(wanted, left)
    allowance.add(Taken(granted, left - granted, NOON, seconds), asked_at=now, now=now)
    return wanted


@pytest.mark.parametrize("limit", [100, 600, 6000, 100_000, 1_000_000])
@pytest.mark.parametrize("processes", [1, 2, 8, 64])
def test_what_is_admitted_before_a_portion_is_at_most_a_tenth_of_the_limit(limit: int, processes: int) -> None:
    plan = Plan.of(limit, processes)
    assert 2 * plan.free * max(processes, ASSUMED_PROCESSES) <= limit / 10
    assert plan.portion - plan.low >= REQUESTS_PER_TRIP
    assert plan.share * processes <= limit


def test_a_caller_who_sends_little_costs_the_database_nothing() -> None:
    allowance = Allowance(PLAN, 0.0)
    for _ in range(REQUESTS_PER_TRIP - 1):
        assert allowance.spend(0.0)
        assert not allowance.should_take(0.0)


def test_what_was_admitted_before_the_first_portion_is_counted_with_it() -> None:
    allowance = Allowance(PLAN, 0.0)
    spend(allowance, 20)
    assert allowance.should_take(0.0)
    assert take(allowance) == 20 + PLAN.portion
    assert allowance.remaining == 6000 - 20


def test_the_next_portion_is_taken_before_this_one_is_used_up() -> None:
    allowance = Allowance(PLAN, 0.0)
    spend(allowance, 20)
    take(allowance)
    assert spend(allowance, PLAN.portion - PLAN.low - 1) == PLAN.portion - PLAN.low - 1
    assert not allowance.should_take(0.0)
    assert allowance.spend(0.0)
    assert allowance.should_take(0.0)
    assert take(allowance) == PLAN.portion
    assert spend(allowance, 1000) == PLAN.low + PLAN.portion


def test_a_limit_that_is_used_up_is_asked_for_no_more_until_the_window_ends() -> None:
    allowance = Allowance(PLAN, 0.0)
    spend(allowance, 20)
    take(allowance, left=25, seconds=40.0)
    assert spend(allowance, 10) == 5
    assert not allowance.may_get_more(0.0)
    assert (allowance.remaining, allowance.seconds_left(10.0)) == (0, 30.0)
    assert allowance.spend(40.0)


def test_what_is_left_of_a_portion_ends_with_its_window() -> None:
    allowance = Allowance(PLAN, 0.0)
    spend(allowance, 20)
    take(allowance, seconds=10.0)
    assert spend(allowance, 1000, now=10.0) == PLAN.free


def test_requests_that_come_while_a_portion_is_on_its_way_are_part_of_it() -> None:
    allowance = Allowance(PLAN, 0.0)
    spend(allowance, 20)
    wanted = allowance.ask()
    assert spend(allowance, 3) == 3
    allowance.add(Taken(wanted, 6000 - wanted, NOON, 60.0), asked_at=0.0, now=0.1)
    assert spend(allowance, 1000) == PLAN.portion - 3


def test_a_portion_that_comes_after_its_window_is_not_used() -> None:
    allowance = Allowance(PLAN, 0.0)
    spend(allowance, 20)
    wanted = allowance.ask()
    allowance.add(Taken(wanted, 6000 - wanted, NOON, 1.0), asked_at=0.0, now=1.5)
    assert spend(allowance, 1000, now=1.5) == PLAN.free - 20


def test_a_portion_that_is_asked_for_before_the_window_ends_and_comes_after_it_belongs_to_the_next() -> None:
    allowance = Allowance(PLAN, 0.0)
    spend(allowance, 20)
    wanted = allowance.ask()
    assert spend(allowance, 2, now=60.0) == 2
    allowance.add(Taken(wanted, 6000 - wanted, NOON, 60.0), asked_at=59.9, now=60.1)
    assert spend(allowance, 1000, now=60.1) == PLAN.portion - 2


def test_without_the_database_a_process_admits_its_share_of_each_window() -> None:
    allowance = Allowance(PLAN, 0.0)
    assert spend(allowance, 25) == 25
    allowance.ask()
    allowance.go_on_alone(0.0)
    assert allowance.remaining == PLAN.share - 25
    assert spend(allowance, 6000, now=1.0) == PLAN.share - 25
    assert spend(allowance, 6000, now=60.0) == PLAN.share


def test_without_the_database_it_is_asked_again_every_two_seconds() -> None:
    allowance = Allowance(PLAN, 0.0)
    spend(allowance, 25)
    allowance.ask()
    allowance.go_on_alone(10.0)
    assert not allowance.should_take(11.9)
    assert allowance.should_take(12.0)


def test_what_was_admitted_without_the_database_is_counted_when_it_is_back() -> None:
    allowance = Allowance(PLAN, 0.0)
    spend(allowance, 25)
    allowance.ask()
    allowance.go_on_alone(0.0)
    spend(allowance, 100)
    assert take(allowance, now=2.0) == 125 + PLAN.portion
    assert spend(allowance, 6000, now=2.0) == PLAN.portion
