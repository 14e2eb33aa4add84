"""What holds for every decision on workers, whatever the figures and the past."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_autoscale_policy import IDLE
from vm_webapp.ops.autoscale.policy import PAST_SECONDS, STEP_SECONDS, decide
from vm_webapp.ops.autoscale.shapes import Decision, Figures, Limits

NOW = 10_000.0
EVERY_SECONDS = 30.0
PROFILE = settings(max_examples=40, deadline=None)

counts, seconds = st.integers(0, 3000), st.floats(0, 10_000)
workers = st.integers(0, 40)


@st.composite
def figures_that_can_be(draw: st.DrawFn) -> Figures:
    """Return figures of a fleet in which no number contradicts another."""
    each, alive, due = draw(st.integers(1, 256)), draw(workers), draw(counts)
    return replace(
        IDLE,
        due=due,
        queued=due + draw(counts),
        claimable=draw(st.integers(0, due)),
        oldest_due_seconds=draw(seconds) if due else 0.0,
        stopped=draw(st.booleans()),
        arrivals_per_minute=draw(st.floats(0, 10_000)),
        mean_stage_seconds=draw(st.none() | st.floats(0.001, 3600)),
        workers=alive,
        starting=draw(st.integers(0, 5)),
        slots=alive * each,
        slots_each=each,
        in_flight=draw(st.integers(0, alive * each)),
        most_calls=draw(st.none() | st.integers(1, 1000)),
        most_workers=draw(st.none() | workers),
    )


nonsense = st.sampled_from([math.nan, math.inf, -math.inf, -1, 0, -(10**30), 10**30, 1e308, 5e-324])
figures_of_nonsense = st.builds(
    Figures, **{one.name: st.booleans() if one.name == "stopped" else nonsense for one in fields(Figures)}
)
limits = st.builds(lambda low, more, target: Limits(low, low + more, target), workers, workers, st.floats(0.1, 3600))
decisions = st.builds(
    Decision, at=st.floats(NOW - 2 * PAST_SECONDS, NOW + 60), desired=workers, needed=workers, reason=st.just("")
)
pasts = st.lists(decisions, max_size=20)


@PROFILE
@given(figures_that_can_be() | figures_of_nonsense, limits, pasts)
def test_the_number_is_within_the_limits(figures: Figures, limits: Limits, past: list[Decision]) -> None:
    decided = decide(figures, limits, past, NOW)
    assert limits.min_workers <= decided.needed <= decided.desired <= limits.max_workers
    assert isinstance(decided.desired, int)
    assert decided.reason.startswith(f"{decided.desired} worker")


@PROFILE
@given(figures_that_can_be(), limits, pasts)
def test_work_in_flight_and_the_minimum_are_the_floor(figures: Figures, limits: Limits, past: list[Decision]) -> None:
    free = replace(figures, stopped=False, claimable=figures.due, oldest_due_seconds=0.0)
    free = replace(free, most_calls=None, most_workers=None)
    filled = math.ceil(free.in_flight / free.slots_each)
    floor = filled + limits.min_workers if filled else limits.min_workers
    assert decide(free, limits, past, NOW).needed >= min(floor, limits.max_workers)


@PROFILE
@given(figures_that_can_be(), limits, pasts, st.integers(1, 1000))
def test_more_that_waits_never_means_fewer_workers(
    figures: Figures, limits: Limits, past: list[Decision], more: int
) -> None:
    longer = replace(figures, queued=figures.queued + more, due=figures.due + more, claimable=figures.claimable + more)
    assert decide(longer, limits, past, NOW).desired >= decide(figures, limits, past, NOW).desired


@PROFILE
@given(figures_that_can_be(), limits, st.lists(decisions, min_size=2, max_size=20), st.randoms())
def test_the_order_of_the_past_does_not_matter(
    figures: Figures, limits: Limits, past: list[Decision], random: object
) -> None:
    shuffled = past[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide(figures, limits, shuffled, NOW) == decide(figures, limits, past, NOW)


@PROFILE
@given(figures_that_can_be(), limits, pasts)
def test_a_decision_made_again_is_the_same(figures: Figures, limits: Limits, past: list[Decision]) -> None:
    decided = decide(figures, limits, past, NOW)
    again = decide(figures, limits, [*(one for one in past if one.at <= NOW), decided], NOW)
    assert again.desired == decided.desired


@PROFILE
@given(figures_that_can_be(), limits, workers)
def test_a_fleet_shrinks_by_one_worker_a_minute(figures: Figures, limits: Limits, before: int) -> None:
    """While limits and database stay the same, whatever is claimed, paused or gone."""
    figures = replace(figures, most_workers=None)
    before = max(limits.min_workers, min(before, limits.max_workers))
    past = [Decision(NOW - age, before, 0, "") for age in range(0, int(PAST_SECONDS), int(EVERY_SECONDS))]
    numbers = _numbers(figures, limits, past, decisions=15)
    changes = [(at, after - was) for (_, was), (at, after) in pairwise(numbers) if after < was]
    assert all(change == -1 for _, change in changes)
    assert all(later - at >= STEP_SECONDS for (at, _), (later, _) in pairwise(changes))


@PROFILE
@given(figures_that_can_be(), limits)
def test_a_steady_load_changes_nothing(figures: Figures, limits: Limits) -> None:
    """Once there are as many workers as were asked for, and stages are on time, the number stays."""
    count = decide(figures, limits, [], NOW).needed
    figures = replace(figures, workers=count, slots=count * figures.slots_each, starting=0, oldest_due_seconds=0.0)
    figures = replace(figures, in_flight=min(figures.in_flight, figures.slots), most_workers=None)
    steady = decide(figures, limits, [], NOW).needed
    figures = replace(figures, workers=steady, slots=steady * figures.slots_each)
    past = [Decision(NOW - age, steady, steady, "") for age in range(0, int(PAST_SECONDS), int(EVERY_SECONDS))]
    assert {number for _, number in _numbers(figures, limits, past, decisions=25)} == {steady}


def _numbers(figures: Figures, limits: Limits, past: list[Decision], *, decisions: int) -> list[tuple[float, int]]:
    """Return when and what is decided, one decision after another on the same figures."""
    kept = list(past)
    for number in range(1, decisions + 1):
        kept.append(decide(figures, limits, kept, NOW + EVERY_SECONDS * number))
    return [(one.at, one.desired) for one in kept[len(past) :]]
