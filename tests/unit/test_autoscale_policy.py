"""Given the queue's figures and earlier decisions, how many workers there should be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vm_webapp.ops.autoscale.policy import IN_AFTER_SECONDS, MOST_START_SECONDS, PAST_SECONDS, STEP_SECONDS, decide
from vm_webapp.ops.autoscale.shapes import Decision, Figures, Limits

LIMITS = Limits(min_workers=1, max_workers=20, target_wait_seconds=30)
IDLE = Figures(
    queued=0,
    due=0,
    running=0,
    oldest_due_seconds=0,
    claimable=0,
    stopped=False,
    arrivals_per_minute=0,
    completions_per_minute=0,
    mean_stage_seconds=30,
    workers=1,
    starting=0,
    draining=0,
    slots=10,
    in_flight=0,
    slots_each=10,
)
NOW = 10_000.0


def figures(*, workers: int = 1, due: int = 0, claimable: int | None = None, **given: Any) -> Figures:
    """Return an idle fleet of so many workers with ten slots each, and what is given."""
    claimable = due if claimable is None else claimable
    changed: dict[str, Any] = {
        "queued": due,
        "due": due,
        "claimable": claimable,
        "workers": workers,
        "slots": 10 * workers,
    }
    return replace(IDLE, **(changed | given))


def past(desired: int, *, needed: int | None = None, seconds: float = PAST_SECONDS, until: float = 5) -> list[Decision]:
    """Return a decision every 5 s for so long, up to so long ago."""
    needed = desired if needed is None else needed
    ages = [until + 5 * number for number in range(int((seconds - until) // 5) + 1)]
    return [Decision(NOW - age, desired, needed, "") for age in ages]


def test_nothing_to_do_needs_the_minimum() -> None:
    decided = decide(IDLE, LIMITS, past(1), NOW)
    assert (decided.desired, decided.needed, decided.at) == (1, 1, NOW)
    assert decided.reason == "1 worker: nothing is due and nothing in flight; this is the minimum"


def test_a_backlog_is_claimed_within_half_of_the_target() -> None:
    # 90 stages, each slot is emptied every 30 s: 60 slots take 60 at once and half as many again in 15 s.
    decided = decide(figures(due=90), LIMITS, past(1), NOW)
    assert decided.desired == 6
    assert decided.reason == "6 workers: 90 stages due and 0 in flight, 30 s each, to be claimed within 15 s"


def test_less_time_is_left_for_stages_that_have_waited() -> None:
    decided = decide(figures(due=90, oldest_due_seconds=5), LIMITS, past(1), NOW)
    assert decided.desired == 7
    assert decided.reason.endswith("to be claimed within 10 s")
    late = decide(figures(due=90, in_flight=10, oldest_due_seconds=500), LIMITS, past(1), NOW)
    assert late.reason.endswith("to be claimed within 5 s")


def test_short_stages_need_fewer_slots() -> None:
    assert decide(figures(due=90, mean_stage_seconds=1), LIMITS, past(1), NOW).desired == 1


def test_depth_alone_counts_while_no_stage_has_ended() -> None:
    decided = decide(figures(due=90, mean_stage_seconds=None), LIMITS, past(1), NOW)
    assert decided.desired == 9
    assert "no stage has ended" in decided.reason


def test_arrivals_are_met_before_a_backlog_has_grown() -> None:
    # One a second, 30 s each: 30 slots are busy, and three more are to spare.
    decided = decide(figures(workers=1, in_flight=4, arrivals_per_minute=60), LIMITS, past(1), NOW)
    assert decided.desired == 4
    assert decided.reason == "4 workers: 60 stages arrive a minute, 30 s each"


def test_more_workers_come_at_once() -> None:
    assert decide(figures(due=500), LIMITS, past(1, seconds=5), NOW).desired == LIMITS.max_workers


def test_the_maximum_is_named_where_it_counts() -> None:
    assert decide(figures(due=500), LIMITS, past(1), NOW).reason.endswith("needs 34, and 20 is the maximum")


@pytest.mark.parametrize("quiet", [0, 5, 60, IN_AFTER_SECONDS - 5])
def test_no_worker_goes_before_fewer_have_done_for_long(quiet: float) -> None:
    before = past(5, until=quiet + 5)
    since = past(5, needed=1, seconds=quiet) if quiet else []
    assert decide(figures(workers=5), LIMITS, before + since, NOW).desired == 5


def test_one_worker_goes_when_fewer_have_done_for_long() -> None:
    decided = decide(figures(workers=5), LIMITS, past(5, needed=1), NOW)
    assert (decided.desired, decided.needed) == (4, 1)


def test_the_next_worker_goes_a_minute_later() -> None:
    gone = past(5, needed=1, until=STEP_SECONDS)
    assert decide(figures(workers=4), LIMITS, gone + past(4, needed=1, seconds=STEP_SECONDS - 5), NOW).desired == 4
    gone = past(5, needed=1, until=STEP_SECONDS + 5)
    assert decide(figures(workers=4), LIMITS, gone + past(4, needed=1, seconds=STEP_SECONDS), NOW).desired == 3


def test_one_moment_of_need_keeps_all_workers() -> None:
    needy = [*past(5, needed=1), Decision(NOW - IN_AFTER_SECONDS / 2, 5, 5, "")]
    assert decide(figures(workers=5), LIMITS, needy, NOW).desired == 5


def test_without_a_past_the_number_falls_from_the_workers_that_are_there() -> None:
    assert decide(figures(workers=5, starting=2), LIMITS, [], NOW).desired == 7
    assert decide(figures(workers=5), LIMITS, past(2, seconds=PAST_SECONDS + 60, until=PAST_SECONDS + 5), NOW) == (
        decide(figures(workers=5), LIMITS, [], NOW)
    )


@pytest.mark.parametrize(("minimum", "expected"), [(0, 4), (1, 5), (3, 7)])
def test_the_minimum_on_top_of_the_work_in_flight_is_the_floor(minimum: int, expected: int) -> None:
    busy = figures(workers=9, in_flight=35, mean_stage_seconds=30)
    decided = decide(busy, replace(LIMITS, min_workers=minimum), past(9, needed=1), NOW)
    assert decided.needed == expected
    assert decide(busy, replace(LIMITS, min_workers=minimum, max_workers=6), past(6), NOW).desired <= 6


def test_the_floor_has_a_reason() -> None:
    decided = decide(figures(workers=1, in_flight=4), LIMITS, past(1), NOW)
    assert decided.reason == "2 workers: 4 in flight fill 1 worker, and 1 more is to spare"


@pytest.mark.parametrize(
    "useless",
    [
        {"stopped": True},
        {"due": 20, "claimable": 0},
        {"due": 20, "oldest_due_seconds": 40, "in_flight": 25, "slots": 60},
        {"most_calls": 30},
        {"most_workers": 3},
    ],
)
def test_no_worker_is_to_spare_that_could_do_nothing(useless: dict[str, Any]) -> None:
    busy = figures(workers=3, **{"in_flight": 30} | useless)
    assert decide(busy, LIMITS, past(3), NOW).needed == 3


def test_workers_that_start_slowly_are_not_answered_by_more_workers() -> None:
    # One stage a second arrives, 30 s each, and no worker comes for MOST_START_SECONDS.
    decisions = [Decision(NOW - 5, 1, 1, "")]
    for seconds in range(0, int(MOST_START_SECONDS), 5):
        waiting = figures(workers=1, slots=10, in_flight=10, due=seconds, arrivals_per_minute=60)
        waiting = replace(waiting, oldest_due_seconds=seconds)
        decisions.append(decide(waiting, LIMITS, decisions, NOW + seconds))
    assert {one.desired for one in decisions[1:]} == {4}


def test_stages_that_are_late_all_the_same_bring_one_worker_a_minute() -> None:
    # By the figures 3 workers would do, and the oldest stage says that they do not.
    late = figures(workers=3, slots=30, in_flight=30, due=9, oldest_due_seconds=45, mean_stage_seconds=5)
    limits = replace(LIMITS, min_workers=0)  # or one would be to spare
    decided = decide(late, limits, past(3), NOW)
    assert decided.desired == 4
    assert "the oldest stage has been due for 45 s" in decided.reason
    assert decide(late, limits, past(3, seconds=STEP_SECONDS - 5), NOW).desired == 3
    assert decide(late, limits, [*past(3, until=10), decided], NOW + 5).desired == 4, "it is on its way"


def test_while_a_person_must_act_the_workers_go_one_by_one() -> None:
    stopped = figures(workers=5, due=200, claimable=0, stopped=True, oldest_due_seconds=300, arrivals_per_minute=100)
    decided = decide(stopped, LIMITS, past(5), NOW)
    assert (decided.desired, decided.needed) == (5, 1)
    assert "200 more due are held back by pauses, caps or limits" in decided.reason
    assert decide(stopped, LIMITS, past(5, needed=1), NOW).desired == 4


def test_stages_that_free_slots_leave_alone_bring_no_workers() -> None:
    # A provider that is paused until its next probe: what is due is claimable, and nobody claims it.
    paused = figures(workers=3, due=200, in_flight=1, oldest_due_seconds=40, arrivals_per_minute=100)
    decided = decide(paused, LIMITS, past(3), NOW)
    assert decided.desired == 3
    assert decided.reason == "3 workers: 29 slots are free and no worker claims what is due, the oldest for 40 s"


def test_the_cap_on_calls_bounds_what_arrivals_need() -> None:
    assert decide(figures(arrivals_per_minute=600, most_calls=17), LIMITS, past(1), NOW).desired == 2


def test_no_more_workers_are_asked_for_than_the_database_serves() -> None:
    decided = decide(figures(workers=3, due=500, most_workers=4), LIMITS, past(3), NOW)
    assert decided.desired == 4
    assert decided.reason.endswith("and 4 is what the database has connections for")
    assert decide(figures(workers=6, due=500, most_workers=4), LIMITS, past(6), NOW).desired == 6, "these are served"


def test_a_new_maximum_counts_at_once() -> None:
    assert decide(figures(workers=9), replace(LIMITS, max_workers=3), past(9), NOW).desired == 3


def test_a_clock_that_stepped_back_drops_no_worker() -> None:
    future = [replace(one, at=one.at + 3600) for one in past(5, needed=1)]
    assert decide(figures(workers=5), LIMITS, future, NOW).desired == 5
