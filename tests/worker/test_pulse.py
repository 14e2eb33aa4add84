"""The pulse (the worker's maintenance loop), tick by tick, with the time passed in."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from tests.db.attempts import OVERLOADED
from tests.db.spending import CALL_TOKENS, USED
from tests.support.resolver import hanging_resolver
from tests.support.runs import create, read
from tests.support.waiting import eventually
from tests.support.work import claim_next
from tests.worker.conftest import MakePulse
from tests.worker.ticks import orphan, shift_ticks, tick
from vm_webapp.db.pool import execute, transaction
from vm_webapp.fleet.presence import Presence
from vm_webapp.redis_client import quick_client
from vm_webapp.runs import lifecycle
from vm_webapp.runs.budget import Budget
from vm_webapp.runs.states import LEASE_SECONDS


def test_a_failed_tick_is_reported_by_the_heartbeat(make_pulse: MakePulse) -> None:
    def prepare() -> str:
        if not tries:
            tries.append(1)
            raise RuntimeError("the database went away")
        return ""

    tries: list[int] = []
    pulse = make_pulse(prepare=prepare)
    pulse.run_once()
    tick(pulse, 1.0)
    (row,) = read("SELECT last_error, counters FROM worker_heartbeats")
    assert row["last_error"]["error"] == "the database went away"
    assert row["counters"]["loop_errors"] == 1


def test_a_worker_starts_only_when_the_schema_fits(make_pulse: MakePulse) -> None:
    reasons = ["not yet", "not yet", ""]
    pulse = make_pulse(prepare=lambda: reasons.pop(0))
    tick(pulse, 1.0, 2.0)
    assert (pulse.status.started, read("SELECT * FROM worker_heartbeats")) == (False, [])
    tick(pulse, 3.0, 4.0)
    assert (pulse.status.started, reasons) == (True, [])
    assert len(read("SELECT * FROM worker_heartbeats")) == 1


def test_an_unhealthy_worker_writes_no_heartbeat(make_pulse: MakePulse, caplog: pytest.LogCaptureFixture) -> None:
    faults = ["", "a worker thread died", "a worker thread died"]
    pulse = make_pulse(find_fault=lambda: faults.pop(0))
    tick(pulse, 1.0)
    before = read("SELECT last_tick_at FROM worker_heartbeats")
    tick(pulse, 2.0, 3.0)
    assert read("SELECT last_tick_at FROM worker_heartbeats") == before
    assert pulse.status.unhealthy
    (logged,) = [record for record in caplog.records if record.message == "worker.unhealthy"]
    assert vars(logged)["reason"] == "a worker thread died"


def test_heartbeats_of_stopped_workers_are_deleted_after_a_day(make_pulse: MakePulse) -> None:
    tick(make_pulse(), 1.0)
    with transaction():
        execute(
            "UPDATE worker_heartbeats SET last_tick_at = now() - interval '25 hours', worker_id = gen_random_uuid()"
        )
    tick(make_pulse(), 1.0)
    assert len(read("SELECT * FROM worker_heartbeats")) == 1


def test_presence_says_which_database_is_used_and_expires(make_pulse: MakePulse, redis_url: str) -> None:
    presence = Presence(quick_client(redis_url, 1.0))
    tick(make_pulse(presence=presence), 1.0)
    (facts,) = eventually(presence.present, "the worker is present")
    assert facts["fingerprint"] == read("SELECT fingerprint FROM worker_heartbeats")[0]["fingerprint"]
    with redis.Redis.from_url(redis_url) as client:
        (key,) = [key for key in client.scan_iter("vm:presence:*") if not key.endswith(b":workers")]
        assert 0 < client.ttl(key) <= 10
        client.delete(key)
    assert presence.present() == []


def test_a_heartbeat_is_written_when_redis_cannot_be_reached(make_pulse: MakePulse) -> None:
    tick(make_pulse(presence=Presence(quick_client("redis://127.0.0.1:1/0", 0.1))), 1.0, 2.0)
    assert len(read("SELECT * FROM worker_heartbeats")) == 1


def test_a_redis_name_that_does_not_resolve_delays_no_tick(make_pulse: MakePulse) -> None:
    pulse = make_pulse(presence=Presence(quick_client("redis://redis.internal:6379/0", 0.1)))
    with hanging_resolver() as asked:
        began = time.monotonic()
        tick(pulse, 1.0)
        assert asked.wait(5)
        tick(pulse, 2.0, 3.0)
        assert time.monotonic() - began < 5
    eventually(lambda: "presence" not in {thread.name for thread in threading.enumerate()}, "the presence thread ends")


def test_a_heartbeat_counts_the_rescued_and_the_hints_that_failed(make_pulse: MakePulse) -> None:
    orphan()
    pulse = make_pulse()
    tick(pulse, 1.0)
    shift_ticks(steady=LEASE_SECONDS)
    tick(pulse, 2.0, 3.0)
    (row,) = read("SELECT counters FROM worker_heartbeats")
    assert (row["counters"]["rescued"], row["counters"]["hints_failed"]) == (1, 3)


def test_a_drain_that_begins_while_the_schema_is_prepared_stays_a_drain(make_pulse: MakePulse) -> None:
    def prepare() -> str:
        pulse.status.leave("draining")
        return ""

    pulse = make_pulse(prepare=prepare)
    tick(pulse, 1.0, 2.0)
    assert read("SELECT state FROM worker_heartbeats") == [{"state": "draining"}]


def test_runs_whose_budget_is_spent_fail_within_five_seconds(make_pulse: MakePulse) -> None:
    pulse = make_pulse()
    tick(pulse, 1.0)
    shift_ticks(steady=LEASE_SECONDS + 1)
    tick(pulse, 2.0)
    spent = create(budget=Budget(tokens=CALL_TOKENS)).run.id
    used = lifecycle.fail_attempt_if_held(claim_next(spent), OVERLOADED, jitter=0, usage=USED)
    assert used == "retrying"
    tick(pulse, 3.0, 4.0, 5.0, 6.0, 7.0)
    (run,) = read("SELECT status, error FROM runs")
    assert (run["status"], run["error"]["code"]) == ("failed", "budget_exceeded")
