"""Readiness distinguishes the reasons why no worker runs the stages that are due."""

from __future__ import annotations

import math
from uuid import uuid4

import pytest

from tests.ops.faults import create_overdue_stage
from tests.ops.readiness import Clock, check, checker, reason
from tests.support.fleet import SLOTS, beat, change
from tests.support.runs import create
from vm_webapp.fleet.alive import FRESH_SECONDS
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, WorkerState, write_heartbeat
from vm_webapp.fleet.presence import Presence
from vm_webapp.ops import monitor
from vm_webapp.ops.health import Health
from vm_webapp.ops.worker_health import CONFIRM_SECONDS, HANDOVER_SECONDS, UNCLAIMED_SECONDS
from vm_webapp.redis_client import quick_client
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claimant

pytestmark = pytest.mark.usefixtures("database")

PROMISED_SECONDS = 10
MARGIN_SECONDS = 2


def check_again_later() -> Health:
    """Return the second verdict of a process, so long after the first that what it still finds counts as confirmed."""
    clock = Clock()
    own = checker(clock)
    assert own.check().ready
    clock.now += CONFIRM_SECONDS
    return own.check()


def test_a_working_worker_is_ready() -> None:
    beat()
    health = check()
    assert health.ready
    assert health.dependencies["worker"]["status"] == "ok"


def test_a_database_that_no_worker_has_used_is_not_ready() -> None:
    assert "no worker has ever used this database: start one" in reason(check())


def test_workers_without_a_fresh_heartbeat_are_not_ready() -> None:
    beat()
    change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '7 s'")
    assert "no worker has sent a heartbeat for 6 s" in reason(check())


@pytest.mark.parametrize("state", ["draining", "starting"])
def test_workers_that_all_start_or_drain_are_not_ready(state: WorkerState) -> None:
    beat(state)
    assert f"every worker is {state}" in reason(check())


def test_a_working_worker_beside_a_draining_one_is_ready() -> None:
    beat("draining")
    beat()
    assert check().ready


@pytest.mark.parametrize("state", ["draining", "stopped"])
def test_a_handover_stays_ready_until_it_takes_too_long(state: WorkerState) -> None:
    clock = Clock()
    own = checker(clock)
    worker = beat()
    assert own.check().ready
    write_heartbeat(worker, Heartbeat(state, 0))
    clock.now += HANDOVER_SECONDS - 1
    health = own.check()
    assert health.ready
    assert "another one is awaited" in health.dependencies["worker"]["note"]
    clock.now += 1
    assert reason(own.check())
    beat()
    assert own.check().ready


def test_a_crash_is_no_handover() -> None:
    own = checker(Clock())
    beat()
    assert own.check().ready
    change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '7 s'")
    assert "no worker has sent a heartbeat" in reason(own.check())


def test_a_live_worker_that_claims_no_due_stage_is_not_ready() -> None:
    beat()
    create_overdue_stage()
    assert "work that is due has not been claimed for 4 s" in reason(check_again_later())


def test_a_slot_that_is_free_between_a_call_and_the_next_claim_stays_ready() -> None:
    beat()
    create_overdue_stage()
    clock = Clock()
    own = checker(clock)
    change("UPDATE worker_heartbeats SET last_claim_at = now() - interval '5 min', in_flight = slots - 1")
    for in_flight in (0, 1, 0, 1):
        change("UPDATE worker_heartbeats SET in_flight = slots - %(free)s", free=1 - in_flight)
        assert own.check().ready
        clock.now += CONFIRM_SECONDS / 2


@pytest.mark.parametrize(
    "state",
    [
        f"UPDATE stages SET available_at = now() - interval '{UNCLAIMED_SECONDS - 1} s' WHERE status = 'queued'",
        "UPDATE stages SET available_at = now() + interval '1 h' WHERE status = 'queued'",
        "UPDATE worker_heartbeats SET last_claim_at = now() - interval '2 s'",
        "UPDATE worker_heartbeats SET in_flight = slots",
        "UPDATE queues SET paused_at = now()",
        "INSERT INTO providers (name, paused_at) VALUES ('kimi', now())",
        "INSERT INTO providers (name, paused_at, paused_until) VALUES ('kimi', now(), now() + interval '1 min')",
    ],
)
def test_a_worker_that_may_not_claim_stays_ready(state: str) -> None:
    beat()
    create_overdue_stage()
    change(state)
    assert check_again_later().ready


def test_a_worker_that_does_not_claim_stays_ready_only_while_its_cap_is_reached() -> None:
    beat(cap=1)
    running = create("content_calendar")
    lifecycle.claim_stage(running.stage_id, Claimant(uuid4(), "kimi", 1), token=uuid4())
    create_overdue_stage()
    assert check_again_later().ready
    change("UPDATE worker_heartbeats SET llm_cap = 2")
    assert "has not been claimed" in reason(check_again_later())


def test_workers_on_another_database_are_detected_through_redis(redis_url: str) -> None:
    presence = Presence(quick_client(redis_url, 1.0))
    presence.announce(uuid4(), {"fingerprint": "of another database"})
    assert "workers are alive, but on another database" in reason(check(redis_url))
    beat()
    assert check(redis_url).ready


def test_a_worker_on_this_database_whose_row_is_old_is_not_reported_as_on_another(redis_url: str) -> None:
    worker = WorkerIdentity(uuid4(), "kimi", SLOTS)
    fingerprint = write_heartbeat(worker, Heartbeat("working", 0)).fingerprint
    change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '7 s'")
    Presence(quick_client(redis_url, 1.0)).announce(worker.worker_id, {"fingerprint": fingerprint})
    assert "no worker has sent a heartbeat" in reason(check(redis_url))


def test_a_crash_of_the_last_working_worker_is_no_handover_while_another_drains() -> None:
    own = checker(Clock())
    beat("draining")
    worker = beat()
    assert own.check().ready
    crash(worker)
    assert "every worker is draining" in reason(own.check())


def test_a_crash_is_no_handover_although_another_worker_stops_at_the_same_time() -> None:
    own = checker(Clock())
    leaving, crashing = beat(), beat()
    assert own.check().ready
    write_heartbeat(leaving, Heartbeat("stopped", 0))
    crash(crashing)
    assert "no worker has sent a heartbeat" in reason(own.check())


def crash(worker: WorkerIdentity) -> None:
    """Make the row of a worker look as if its last heartbeat were a little too old."""
    change(
        "UPDATE worker_heartbeats SET last_tick_at = now() - %(s)s * interval '1 s' WHERE worker_id = %(id)s",
        s=FRESH_SECONDS + 0.5,
        id=worker.worker_id,
    )


def test_a_paused_queue_is_reported_and_stays_ready() -> None:
    beat()
    assert "note" not in check().dependencies["worker"]
    change("UPDATE queues SET paused_at = now(), paused_by = 'somebody', reason = 'a bad prompt'")
    health = check()
    assert health.ready
    assert "the queue is paused" in health.dependencies["worker"]["note"]
    assert "python -m vm_webapp queue resume" in health.dependencies["worker"]["note"]
    assert "somebody" not in str(health.body(private=False))


def test_the_slowest_verdict_leaves_a_margin_in_the_ten_seconds() -> None:
    confirmed = math.ceil(CONFIRM_SECONDS / monitor.INTERVAL_SECONDS) * monitor.INTERVAL_SECONDS
    seen = max(FRESH_SECONDS, HANDOVER_SECONDS, UNCLAIMED_SECONDS + confirmed)
    # The first check that can find it is up to an interval late, and the check that must agree comes one later.
    assert seen + 2 * monitor.INTERVAL_SECONDS <= PROMISED_SECONDS - MARGIN_SECONDS
    assert math.ceil(CONFIRM_SECONDS) > CONFIRM_SECONDS, "must not depend on a check that comes a millisecond early"
