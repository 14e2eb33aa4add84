"""The doctor finds each fault, says the next command, and works with the database or Redis down."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from uuid import uuid4

import psycopg2
import pytest
import redis

from tests.support.runs import create, read
from vm_webapp import __version__
from vm_webapp.db.bundle import bundled_ids
from vm_webapp.db.pool import execute, json, open_pool, transaction
from vm_webapp.db.sessions import name_session
from vm_webapp.ops import queue_control
from vm_webapp.ops.doctor import Check, examine
from vm_webapp.redis_client import quick_client
from vm_webapp.runs.heartbeat import Beat, WorkerIdentity, WorkerState, write_heartbeat
from vm_webapp.runs.presence import Presence
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")

NOWHERE = "redis://127.0.0.1:1/0"


def beat(state: WorkerState = "working", *, build: str = __version__, **facts: object) -> WorkerIdentity:
    """Write the heartbeat of a new worker."""
    worker = WorkerIdentity(uuid4(), "kimi", 4, build=build)
    write_heartbeat(worker, Beat(state, 0, **facts))  # type: ignore[arg-type]
    return worker


def change(sql: str, **params: object) -> None:
    """Change the database behind everybody's back."""
    with transaction():
        execute(sql, **params)


def checks(redis_url: str | None = None, *, managed: bool = False) -> dict[str, Check]:
    """Return what the doctor says, by name; each that is not ok must say what to do next."""
    found = examine(Settings(managed=managed), redis_url)
    assert all(bool(check.next) == (check.verdict != "ok") for check in found)
    assert all("\n" not in check.detail for check in found)
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


def test_where_nothing_is_wrong_everything_is_ok(redis_url: str) -> None:
    worker = beat()
    Presence(quick_client(redis_url, 1.0)).announce(worker.worker_id, {"fingerprint": fingerprint()})
    found = checks(redis_url)
    assert {check.verdict for check in found.values()} == {"ok"}, found
    assert list(found) == [
        "database",
        "schema",
        "redis",
        "redis policy",
        "one database",
        "workers",
        "loop errors",
        "starts",
        "queue",
        "oldest due",
        "provider",
        "last model call",
        "clock",
        "connections",
        "versions",
    ]


def fingerprint() -> str:
    """Return this database's fingerprint, as workers write it."""
    return str(read("SELECT fingerprint FROM worker_heartbeats LIMIT 1")[0]["fingerprint"])


def pause_provider(until: str) -> None:
    """Pause Kimi until a time in SQL."""
    change(
        f"INSERT INTO providers (name, paused_at, paused_until, reason) VALUES ('kimi', now(), {until}, %(reason)s)",
        reason=json({"code": "llm_unauthorized", "message": "Invalid Authentication"}),
    )


def leave_work_waiting(seconds: int) -> None:
    """Leave a stage that has been due for a while."""
    create()
    change("UPDATE stages SET available_at = now() - %(s)s * interval '1 s' WHERE status = 'queued'", s=seconds)


def restart_often() -> None:
    """Leave the rows of four workers that have just stopped."""
    for _ in range(4):
        beat("stopped")


def err() -> None:
    """Leave a worker whose loop fails."""
    at = datetime.now(UTC).isoformat()
    beat(last_error={"error": "deadlock detected", "at": at}, counters={"loop_errors": 7})


def refuse_calls() -> None:
    """Leave a worker whose last call was refused."""
    at = datetime.now(UTC).isoformat()
    beat(last_model_outcome={"code": "llm_unauthorized", "message": "Invalid Authentication", "at": at})


@pytest.mark.parametrize(
    ("fault", "name", "verdict", "said", "next"),
    [
        (lambda: beat("draining"), "workers", "fail", "every worker is draining", "restart the worker"),
        (lambda: None, "workers", "fail", "no worker has ever used this database", "worker's log"),
        (lambda: beat(build="0.0.1"), "versions", "warn", "0.0.1", "deploy"),
        (restart_often, "starts", "warn", "4 within 10 minutes, 0 alive", "worker's log"),
        (err, "loop errors", "warn", "7 times: deadlock detected", "worker.loop_error"),
        (refuse_calls, "last model call", "warn", "Invalid Authentication", "smoke --with-model"),
        (lambda: pause_provider("NULL"), "provider", "fail", "Invalid Authentication", "resume-provider kimi"),
        (lambda: pause_provider("now() + interval '1 m'"), "provider", "warn", "by itself", "wait"),
        (lambda: leave_work_waiting(60), "oldest due", "warn", "the oldest for 60 s", "queue status"),
        (lambda: leave_work_waiting(600), "oldest due", "fail", "the oldest for 600 s", "queue status"),
        (
            lambda: queue_control.pause_queue(reason="a bad prompt", actor="ops"),
            "queue",
            "warn",
            "paused by ops: a bad prompt",
            "vm_webapp queue resume",
        ),
        (
            lambda: change("DELETE FROM _yoyo_migration WHERE migration_id = %(id)s", id=bundled_ids()[0]),
            "schema",
            "fail",
            bundled_ids()[0],
            "vm_webapp migrate up",
        ),
    ],
)
def test_each_fault_is_found_with_what_to_do_next(
    fault: Callable[[], object], name: str, verdict: str, said: str, next: str
) -> None:
    fault()
    check = checks()[name]
    assert (check.verdict, said in check.detail, next in check.next) == (verdict, True, True), check


def test_an_api_of_another_build_is_found_out(database_url: str) -> None:
    with closing(psycopg2.connect(database_url, application_name=name_session("api", "0.0.1"))):
        check = checks()["versions"]
    assert (check.verdict, "APIs run 0.0.1" in check.detail) == ("warn", True), check


def test_a_worker_on_another_database_is_found_out(redis_url: str) -> None:
    Presence(quick_client(redis_url, 1.0)).announce(uuid4(), {"fingerprint": "elsewhere"})
    check = checks(redis_url)["one database"]
    assert check.verdict == "fail"
    assert "1 of 1 workers use another database" in check.detail
    assert "VM_DB_URL" in check.next


@pytest.mark.parametrize(("managed", "verdict"), [(True, "fail"), (False, "warn")])
def test_a_redis_that_is_not_set_matters_in_managed_mode(managed: bool, verdict: str) -> None:
    assert checks(managed=managed)["redis"].verdict == verdict


def test_with_redis_down_the_rest_is_still_examined() -> None:
    beat()
    found = checks(NOWHERE)
    assert (found["redis"].verdict, found["one database"].verdict) == ("fail", "warn")
    assert found["workers"].verdict == "ok"
    assert "connections" in found


def test_a_redis_that_evicts_is_named_with_its_policy(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            check = checks(redis_url)["redis policy"]
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert (check.verdict, "allkeys-lru" in check.detail, "noeviction" in check.next) == ("warn", True, True)


def test_with_the_database_down_redis_is_still_examined(redis_url: str) -> None:
    open_pool("postgresql://nobody@127.0.0.1:1/nothing", max_connections=1, application_name="tests")
    found = checks(redis_url)
    assert (found["database"].verdict, found["redis"].verdict) == ("fail", "ok")
    assert "VM_DB_URL" in found["database"].next


def test_an_empty_database_is_one_that_was_not_migrated() -> None:
    change("DROP SCHEMA public CASCADE")
    change("CREATE SCHEMA public")
    found = checks()
    assert (found["database"].verdict, found["schema"].verdict) == ("ok", "fail")
    assert "migrate up" in found["schema"].next
