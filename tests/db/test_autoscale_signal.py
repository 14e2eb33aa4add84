"""``GET /queue``, ``/metrics``, the view ``autoscale_signal`` and the rules of claims say the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.db.attempts import OVERLOADED, claimed, fail
from tests.db.spending import USED, spend
from tests.db.stages import create_stages, pause_provider
from tests.support.actors import OPERATOR
from tests.support.fleet import SLOTS, beat, change
from tests.support.runs import create, read
from vm_webapp.access.actor import Actor
from vm_webapp.context import brands
from vm_webapp.db.pool import transaction
from vm_webapp.fleet.alive import read_last_group, read_worker_groups
from vm_webapp.fleet.duty_leases import DutyLease
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.ops.autoscale.calls import Scaler, count_calls
from vm_webapp.ops.autoscale.decider import Decider
from vm_webapp.ops.autoscale.decisions import Signal, read_signal
from vm_webapp.ops.autoscale.shapes import Decision
from vm_webapp.ops.health import Health
from vm_webapp.ops.queue_control import pause_queue, read_queue
from vm_webapp.ops.queue_history import purge_old_scale_calls
from vm_webapp.ops.scrape import Scraper
from vm_webapp.runs import lifecycle
from vm_webapp.runs.admission import read_demand
from vm_webapp.runs.budget import Budget
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")

ASSUMED_SLOTS = 32


def signal() -> Signal:
    """Read the view."""
    with transaction():
        return read_signal()


def demand_by_the_rules() -> tuple[int, float, int]:
    """Return due stages, the age of the oldest, and the workers that could run all work at once, from the rules."""
    with transaction():
        groups = read_worker_groups()
        demand = read_demand(groups or [read_last_group()])
    (found,) = read(
        """
        SELECT (SELECT count(*) FROM stages WHERE status = 'running') AS running,
               (SELECT slots FROM worker_heartbeats ORDER BY last_tick_at DESC LIMIT 1) AS slots
        """
    )
    workers = sum(group.workers for group in groups)
    each = math.ceil(sum(group.slots for group in groups) / workers) if workers else found["slots"] or ASSUMED_SLOTS
    busy = sum(group.in_flight for group in groups) if demand.stopped else found["running"]
    wanted = math.ceil((busy + demand.claimable) / each)
    return demand.due, demand.oldest_due_seconds, wanted


def brand(max_running: int | None = None, day_budget: dict[str, int | None] | None = None) -> UUID:
    """Create a brand."""
    values = {"name": "One", "max_running": max_running} | ({"day_budget": day_budget} if day_budget else {})
    return brands.create(values, actor=OPERATOR).id


def work(provider: str = "kimi", cap: int | None = None, slots: int = SLOTS, in_flight: int = 0) -> None:
    """Write the heartbeat of a worker."""
    write_heartbeat(WorkerIdentity(uuid4(), provider, slots, cap), Heartbeat("working", in_flight))


def nothing() -> None:
    """Leave the queue empty, and the database without a worker."""


def backlog() -> None:
    """Let many calls and other stages wait, and some run."""
    for stage in create_stages(3):
        claimed(stage)
    create_stages(9)
    create_stages(5, "smoke")
    work(in_flight=3)


def paused_queue() -> None:
    """Pause the queue amid work."""
    backlog()
    pause_queue(reason=None, actor=Actor("ops"))


def paused_provider() -> None:
    """Pause the provider until a person resumes it."""
    backlog()
    pause_provider("kimi", until=None)


def provider_paused_for_a_while() -> None:
    """Pause the provider until a time."""
    backlog()
    pause_provider("kimi", until="1 h")


def other_provider_paused() -> None:
    """Pause a provider that nobody calls."""
    backlog()
    pause_provider("other", until=None)


def capped() -> None:
    """Cap the calls, of which some are in flight."""
    for stage in create_stages(2):
        claimed(stage)
    create_stages(30)
    create_stages(3, "smoke")
    work(cap=9)


def cap_lowered_below_the_calls_in_flight() -> None:
    """Let more calls be in flight than are allowed now."""
    for stage in create_stages(5):
        claimed(stage)
    create_stages(9)
    work(cap=2)


def two_groups() -> None:
    """Let a deploy change provider and cap."""
    create_stages(30)
    work(cap=3)
    work(cap=8, slots=6)
    work(provider="offline", cap=12)
    pause_provider("offline", until=None)


def spent_brand() -> None:
    """Spend the day's budget of one of two brands."""
    spent, other = (brand(day_budget={"tokens": most, "money": None}) for most in (100, 1000))
    for each in (spent, other):
        spend(each, tokens=70)
        spend(each, tokens=30, summed=True)
        for _ in range(6):
            create(brand_id=each)
        create("smoke", brand_id=each)
    work()


def spent_run() -> None:
    """Spend the budget of a run, and not that of another one."""
    for most in (50, 5000):
        held = claimed(create(budget=Budget(tokens=most, money=Decimal(5))).stage_id)
        assert lifecycle.fail_attempt_if_held(held, OVERLOADED, jitter=0, usage=USED) == "retrying"
    change("UPDATE stages SET available_at = clock_timestamp() WHERE status = 'queued'")
    change("DELETE FROM providers")
    work()


def limited_brands() -> None:
    """Limit two brands, one of which has stages of both kinds, and have some of both running."""
    few, many = brand(max_running=2), brand(max_running=7)
    claimed(create(brand_id=few).stage_id)
    for each in (few, many, None):
        for _ in range(6):
            create(brand_id=each)
            create("smoke", brand_id=each)
    claimed(create(brand_id=many).stage_id)
    work(cap=5)


def stages_from_before_start_tags() -> None:
    """Limit a brand whose stages do not name it themselves."""
    limited = brand(max_running=3)
    for _ in range(9):
        create(brand_id=limited)
    change("UPDATE stages SET start_tag = 0, brand_id = NULL")
    create_stages(5)
    work()


def backing_off() -> None:
    """Let stages wait for a time."""
    create_stages(9)
    fail(claimed(create_stages(1)[0]))
    change("UPDATE stages SET available_at = now() + interval '1 h' WHERE run_id IN (SELECT id FROM runs LIMIT 4)")
    change("DELETE FROM providers")
    work()


def dead_workers() -> None:
    """Let all workers be dead or draining, and the last one have had a cap."""
    for stage in create_stages(8):
        claimed(stage)
    create_stages(20)
    work()
    change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '7 s'")
    beat("draining", in_flight=2, cap=11)


def stopped_by_a_person_without_workers() -> None:
    """Let a person have to act, and nobody be there."""
    dead_workers()
    pause_provider("kimi", until=None)


SITUATIONS = [
    nothing,
    backlog,
    paused_queue,
    paused_provider,
    provider_paused_for_a_while,
    other_provider_paused,
    capped,
    cap_lowered_below_the_calls_in_flight,
    two_groups,
    spent_brand,
    spent_run,
    limited_brands,
    stages_from_before_start_tags,
    backing_off,
    dead_workers,
    stopped_by_a_person_without_workers,
]


def decided(*, seconds_ago: float, desired: int, **limits: float) -> None:
    """Store a decision of some time ago."""
    least, most, target = limits.get("least", 0), limits.get("most", 1000), limits.get("target", 30)
    change(
        """
        INSERT INTO autoscale_decision (decided_at, desired_workers, reason, arrivals_per_minute,
                                        completions_per_minute, mean_stage_seconds, min_workers, max_workers,
                                        target_wait_seconds, figures, past)
        VALUES (clock_timestamp() - %(ago)s * interval '1 s', %(desired)s, 'as it was decided', 7.5, 6, 5.25,
                %(least)s, %(most)s, %(target)s, '{}', '[]')
        """,
        ago=seconds_ago,
        desired=desired,
        least=least,
        most=most,
        target=target,
    )


def scraped() -> dict[str, float]:
    """Scrape; return the figures without labels, and those of stages and workers by their state."""
    exposition, _ = Scraper().scrape(Health({}, ()), accept="")
    return {
        sample.labels.get("state", sample.name): sample.value
        for family in text_string_to_metric_families(exposition.decode())
        for sample in family.samples
    }


def assert_all_say_the_same() -> Signal:
    """Compare the view with what the API and a scrape say; return it."""
    seen, queue, metrics = signal(), read_queue(), scraped()
    figures = {name: getattr(seen, name) for name in ("queued", "running", "due", "workers", "slots", "in_flight")}
    figures |= {name: getattr(seen, name) for name in ("draining", "desired_workers", "mean_stage_seconds")}
    figures |= {name: getattr(seen, name) for name in ("arrivals_per_minute", "completions_per_minute")}
    assert {name: getattr(queue, name) for name in figures} == figures
    decided = ("reason", "decided_at", "stale", "min_workers", "max_workers", "target_wait_seconds")
    assert all(getattr(queue.autoscale, name) == getattr(seen, name) for name in decided)
    shown = {
        "queued": metrics["queued"],
        "running": metrics["running"],
        "due": metrics["due"],
        "workers": metrics["working"],
        "slots": metrics["vm_slots"],
        "in_flight": metrics["vm_in_flight"],
        "draining": metrics["draining"],
        "desired_workers": metrics["vm_desired_workers"],
        "mean_stage_seconds": metrics.get("vm_queue_mean_stage_seconds"),
        "arrivals_per_minute": metrics.get("vm_queue_arrivals_per_minute"),
        "completions_per_minute": metrics.get("vm_queue_completions_per_minute"),
    }
    assert shown == figures
    assert metrics["vm_autoscale_stale"] == seen.stale
    ages = [seen.oldest_due_seconds, queue.oldest_due_seconds, metrics["vm_queue_oldest_due_seconds"]]
    assert max(ages) - min(ages) < 2
    return seen


@pytest.mark.parametrize("situation", SITUATIONS)
def test_all_readers_say_the_same_as_the_rules_of_claims(situation: Callable[[], None]) -> None:
    situation()
    decided(seconds_ago=31, desired=77)
    seen = assert_all_say_the_same()
    due, age, desired = demand_by_the_rules()
    assert (seen.due, seen.desired_workers, seen.stale) == (due, desired, True)
    assert abs(seen.oldest_due_seconds - age) < 2
    assert (seen.arrivals_per_minute, seen.completions_per_minute, seen.mean_stage_seconds) == (None, None, None)
    Decider(Settings(autoscale_max=40), decide=lambda figures, limits, past, now: Decision(now, 5, 5, "so")).run_once()
    fresh = assert_all_say_the_same()
    assert (fresh.desired_workers, fresh.reason, fresh.stale, fresh.max_workers) == (5, "so", False, 40)
    (stored,) = read("SELECT figures FROM autoscale_decision")
    assert (stored["figures"]["due"], stored["figures"]["running"]) == (due, fresh.running)


@pytest.mark.parametrize(("seconds_ago", "stale"), [(29, False), (31, True), (-29, False), (-31, True)])
def test_a_decision_counts_for_thirty_seconds(seconds_ago: float, stale: bool) -> None:
    """A time that is far ahead is from before the clock was set back."""
    decided(seconds_ago=seconds_ago, desired=7, least=2, most=9, target=12.5)
    seen = assert_all_say_the_same()
    assert (seen.stale, seen.desired_workers) == (stale, 2 if stale else 7)
    assert (seen.reason == "as it was decided") != stale
    assert (seen.mean_stage_seconds, seen.arrivals_per_minute) == ((None, None) if stale else (5.25, 7.5))
    assert (seen.min_workers, seen.max_workers, seen.target_wait_seconds) == (2, 9, 12.5)


def test_without_a_fresh_decision_the_limits_of_the_last_one_hold() -> None:
    create_stages(30)
    work()
    assert signal().desired_workers == 8
    decided(seconds_ago=99, desired=1, least=1, most=6)
    assert signal().desired_workers == 6


def test_the_queue_says_who_scales_and_shows_the_last_calls() -> None:
    assert (read_queue().autoscale.scaler, read_queue().autoscale.calls) == (None, ())
    lease = DutyLease("scale", "host:7")
    assert lease.hold({"min": 1, "max": 3, "target_wait_seconds": 30, "service": "srv-1"})
    for wanted in range(12):
        change(
            "INSERT INTO scale_calls (service, wanted, outcome, detail) VALUES ('srv-1', %(n)s, 'scaled', '')", n=wanted
        )
    change("UPDATE scale_calls SET at = now() - interval '61 min' WHERE wanted < 4")
    status = read_queue().autoscale
    assert status.scaler == Scaler("host:7", "srv-1")
    assert [call.wanted for call in status.calls] == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]
    with transaction():
        assert count_calls() == {"scaled": 8}
    change("UPDATE scale_calls SET at = now() - interval '8 days' WHERE wanted < 11")
    assert purge_old_scale_calls() == 11
    lease.release()
    assert read_queue().autoscale.scaler is None
