"""Readiness tells apart why work does not progress, and says what to do."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
import redis

from tests.support.runs import create
from vm_webapp.db.pool import execute, open_pool, transaction
from vm_webapp.ops.health import MOST_SKEW_SECONDS, WORKSPACE_EVERY_SECONDS, Health, HealthChecker
from vm_webapp.ops.workforce import CONFIRM_SECONDS, HANDOVER_SECONDS, UNCLAIMED_SECONDS
from vm_webapp.ops.workspace import PROBE_FILE
from vm_webapp.redis_client import quick_client
from vm_webapp.runs import lifecycle
from vm_webapp.runs.heartbeat import Beat, WorkerIdentity, WorkerState, write_heartbeat
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.runs.presence import Presence
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")

SLOTS = 4


class Clock:
    """Monotonic seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def beat(state: WorkerState = "working", *, in_flight: int = 0, cap: int | None = None) -> WorkerIdentity:
    """Write the heartbeat of a new worker."""
    worker = WorkerIdentity(uuid4(), "kimi", SLOTS, cap)
    write_heartbeat(worker, Beat(state, in_flight))
    return worker


def checker(clock: Clock, redis_url: str | None = None, **settings: Any) -> HealthChecker:
    """Return what checks, by a clock that a test moves."""
    return HealthChecker(Settings(**settings), redis_url, clock=clock)


def check(redis_url: str | None = None, **settings: Any) -> Health:
    """Return the verdict of a process that has just started."""
    return checker(Clock(), redis_url, **settings).check()


def check_again_later() -> Health:
    """Return the verdict of a process that has looked once before, long enough ago to believe what it saw."""
    clock = Clock()
    own = checker(clock)
    assert own.check().ready
    clock.now += CONFIRM_SECONDS
    return own.check()


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


@pytest.mark.parametrize("state", ["draining", "stopped"])
def test_a_handover_is_no_fault_until_it_takes_too_long(state: WorkerState) -> None:
    clock = Clock()
    own = checker(clock)
    worker = beat()
    assert own.check().ready
    write_heartbeat(worker, Beat(state, 0))
    clock.now += HANDOVER_SECONDS - 1
    health = own.check()
    assert health.ready
    assert "another one is awaited" in health.dependencies["worker"]["note"]
    clock.now += 1
    assert reason(own.check())
    beat()
    assert own.check().ready


def test_a_worker_that_crashed_hands_nothing_over() -> None:
    own = checker(Clock())
    beat()
    assert own.check().ready
    change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '7 s'")
    assert "no worker has been heard of" in reason(own.check())


def test_alive_but_not_claiming_although_work_is_due() -> None:
    beat()
    leave_work_waiting()
    assert "work that is due has not been claimed for 8 s" in reason(check_again_later())


def test_room_between_the_end_of_a_call_and_the_next_claim_is_no_fault() -> None:
    beat()
    leave_work_waiting()
    clock = Clock()
    own = checker(clock)
    change("UPDATE worker_heartbeats SET last_claim_at = now() - interval '5 min', in_flight = slots - 1")
    for in_flight in (0, 1, 0, 1):
        change("UPDATE worker_heartbeats SET in_flight = slots - %(free)s", free=1 - in_flight)
        assert own.check().ready
        clock.now += CONFIRM_SECONDS - 1


@pytest.mark.parametrize(
    "excuse",
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
def test_there_are_good_reasons_for_not_claiming(excuse: str) -> None:
    beat()
    leave_work_waiting()
    change(excuse)
    assert check_again_later().ready


def test_a_cap_that_is_reached_is_a_good_reason_and_one_that_is_not_is_none() -> None:
    beat(cap=1)
    running = create("content_calendar")
    lifecycle.claim_stage(running.due_stage_ids[0], Claimant(uuid4(), "kimi", 1), token=uuid4())
    leave_work_waiting()
    assert check_again_later().ready
    change("UPDATE worker_heartbeats SET llm_cap = 2")
    assert "has not been claimed" in reason(check_again_later())


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


@pytest.mark.parametrize("ahead", [MOST_SKEW_SECONDS + 1, -MOST_SKEW_SECONDS - 1])
def test_a_clock_that_is_wrong_is_said_and_stays_ready(ahead: float) -> None:
    beat()
    health = HealthChecker(Settings(), None, wall_clock=lambda: time.time() + ahead).check()
    assert health.ready
    assert health.dependencies["clock"]["status"] == "skewed"
    assert health.dependencies["clock"]["seconds_ahead"] == pytest.approx(ahead, abs=0.5)


def test_a_clock_that_is_right_is_ok() -> None:
    beat()
    assert check().dependencies["clock"] == {"status": "ok"}


def test_a_workspace_that_cannot_be_written_is_said_without_its_path_and_stays_ready(tmp_path: Path) -> None:
    beat()
    (tmp_path / "file").touch()
    clock = Clock()
    own = checker(clock, workspace_root=tmp_path / "file" / "workspace")
    health = own.check()
    assert health.ready
    assert health.dependencies["workspace"]["status"] == "unwritable"
    assert str(tmp_path) not in str(health.body(private=False))
    (tmp_path / "file").unlink()
    clock.now += WORKSPACE_EVERY_SECONDS
    assert own.check().dependencies["workspace"] == {"status": "ok"}


def test_a_full_disk_is_said_and_stays_ready(tmp_path: Path) -> None:
    beat()
    # The kernel answers every write to this device as a disk without room does.
    (tmp_path / PROBE_FILE).symlink_to("/dev/full")
    health = check(workspace_root=tmp_path)
    assert health.ready
    assert health.dependencies["workspace"]["status"] == "full"
    assert "free space" in health.dependencies["workspace"]["note"]
    assert list(tmp_path.iterdir()) == []


def test_connections_that_the_server_ended_are_replaced(database: str) -> None:
    beat()
    own = checker(Clock())
    assert own.check().ready
    ours = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tests'"
    with closing(psycopg2.connect(database, application_name="an administrator")) as own_session:
        cursor = own_session.cursor()
        cursor.execute(f"SELECT pg_terminate_backend(pid) {ours}")
        assert cursor.fetchall() == [(True,)]
    assert own.check().ready


def test_a_pool_whose_connections_are_all_taken_has_a_reason_of_its_own(database: str) -> None:
    beat()
    open_pool(database, max_connections=1, application_name="tests")
    taken, over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction():
            taken.set()
            over.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert taken.wait(5)
        assert "every database connection of this API is taken: restart the API" in reason(check())
    finally:
        over.set()
        holder.join()
    assert check().ready


def test_what_names_machines_is_for_those_who_may_see_it() -> None:
    worker = beat()
    assert worker.host not in str(check().body(private=False))
    assert worker.host in str(check().body(private=True))
