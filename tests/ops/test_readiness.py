"""Readiness tells apart why work does not progress, and says what to do."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import redis

from tests.support.runs import create
from vm_webapp.db.pool import execute, open_pool, transaction
from vm_webapp.ops.health import Health, HealthChecker
from vm_webapp.redis_client import quick_client
from vm_webapp.runs import lifecycle
from vm_webapp.runs.heartbeat import Beat, WorkerIdentity, WorkerState, write_heartbeat
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.runs.presence import Presence
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")

SLOTS = 4


def beat(state: WorkerState = "working", *, in_flight: int = 0, cap: int | None = None) -> WorkerIdentity:
    """Write the heartbeat of a new worker."""
    worker = WorkerIdentity(uuid4(), "kimi", SLOTS, cap)
    write_heartbeat(worker, Beat(state, in_flight))
    return worker


def check(redis_url: str | None = None, **settings: Any) -> Health:
    """Return the verdict."""
    return HealthChecker(Settings(**settings), redis_url).check()


def reason(health: Health) -> str:
    """Return the one reason why it is not ready."""
    assert health.body(private=False)["status"] == "not_ready"
    (only,) = health.reasons
    return only


def change(sql: str, **params: Any) -> None:
    """Change the database behind everybody's back."""
    with transaction():
        execute(sql, **params)


def leave_work_waiting(seconds: int = 20) -> lifecycle.CreatedRun:
    """Create a run whose first stage has been due for a while."""
    created = create("content_calendar")
    change("UPDATE stages SET available_at = now() - %(s)s * interval '1 s' WHERE status = 'queued'", s=seconds)
    return created


def test_a_working_worker_is_ready() -> None:
    beat()
    health = check()
    assert health.ready
    assert health.dependencies["worker"]["status"] == "ok"


def test_no_worker_ever_seen() -> None:
    assert "no worker has ever used this database: start one" in reason(check())


def test_no_worker_heard_of_lately() -> None:
    beat()
    change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '7 s'")
    assert "no worker has been heard of for 6 s" in reason(check())


@pytest.mark.parametrize("state", ["draining", "starting"])
def test_every_worker_is_leaving_or_coming(state: WorkerState) -> None:
    beat(state)
    assert f"every worker is {state}" in reason(check())


def test_one_working_beside_a_draining_one_is_ready() -> None:
    beat("draining")
    beat()
    assert check().ready


def test_alive_but_not_claiming_although_work_is_due() -> None:
    beat()
    leave_work_waiting()
    assert "work that is due has not been claimed for 15 s" in reason(check())


@pytest.mark.parametrize(
    "excuse",
    [
        "UPDATE stages SET available_at = now() - interval '5 s' WHERE status = 'queued'",
        "UPDATE stages SET available_at = now() + interval '1 h' WHERE status = 'queued'",
        "UPDATE worker_heartbeats SET last_claim_at = now() - interval '3 s'",
        "UPDATE worker_heartbeats SET in_flight = slots",
        "UPDATE queues SET paused_at = now()",
        "INSERT INTO providers (name, paused_at) VALUES ('kimi', now())",
        "INSERT INTO providers (name, paused_at, paused_until) VALUES ('kimi', now(), now() + interval '1 min')",
    ],
)
def test_there_are_good_reasons_for_not_claiming(excuse: str) -> None:
    beat()
    leave_work_waiting()
    change(excuse)
    assert check().ready


def test_a_cap_that_is_reached_is_a_good_reason_and_one_that_is_not_is_none() -> None:
    beat(cap=1)
    running = create("content_calendar")
    lifecycle.claim_stage(running.due_stage_ids[0], Claimant(uuid4(), "kimi", 1), token=uuid4())
    leave_work_waiting()
    assert check().ready
    change("UPDATE worker_heartbeats SET llm_cap = 2")
    assert "has not been claimed" in reason(check())


def test_workers_on_another_database_are_found_out_through_redis(redis_url: str) -> None:
    presence = Presence(quick_client(redis_url, 1.0))
    presence.announce(uuid4(), {"fingerprint": "of another database"})
    assert "workers are alive, but on another database" in reason(check(redis_url))
    beat()
    assert check(redis_url).ready


def test_a_worker_on_this_database_whose_row_is_old_is_not_called_foreign(redis_url: str) -> None:
    worker = WorkerIdentity(uuid4(), "kimi", SLOTS)
    fingerprint = write_heartbeat(worker, Beat("working", 0)).fingerprint
    change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '7 s'")
    Presence(quick_client(redis_url, 1.0)).announce(worker.worker_id, {"fingerprint": fingerprint})
    assert "no worker has been heard of" in reason(check(redis_url))


def test_a_redis_that_does_not_answer_is_said_and_stays_ready() -> None:
    beat()
    health = check("redis://127.0.0.1:1/0")
    assert health.ready
    assert health.dependencies["redis"]["status"] == "degraded"


def test_a_redis_that_is_full_is_degraded(redis_url: str) -> None:
    beat()
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1")
        try:
            health = check(redis_url)
        finally:
            client.config_set("maxmemory", "0")
    assert health.ready
    assert health.dependencies["redis"]["status"] == "degraded"


def test_a_paused_provider_is_said_and_stays_ready() -> None:
    beat()
    change("INSERT INTO providers (name, paused_at, reason) VALUES ('kimi', now(), '{\"code\": \"llm_unauthorized\"}')")
    health = check(kimi_api_key="k")
    assert health.ready
    assert health.dependencies["llm"]["status"] == "paused"
    assert health.dependencies["llm"]["reason"] == "llm_unauthorized"


def test_a_missing_migration_is_not_ready() -> None:
    beat()
    change("DELETE FROM _yoyo_migration")
    assert "run python -m vm_webapp migrate" in reason(check())


def test_a_database_that_is_gone_is_one_reason_without_its_address() -> None:
    open_pool("postgresql://somebody@127.0.0.1:1/nothing", max_connections=2, application_name="tests")
    health = check()
    assert "the database does not answer" in reason(health)
    told = str(health.body(private=False))
    assert "127.0.0.1" not in told
    assert "somebody" not in told


def test_what_names_machines_is_for_those_who_may_see_it() -> None:
    worker = beat()
    assert worker.host not in str(check().body(private=False))
    assert worker.host in str(check().body(private=True))
