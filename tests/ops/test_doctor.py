"""The doctor finds each fault, names the next command, and works with Redis down."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
import redis

from tests.ops.doctor_checks import NAMES, NOWHERE, checks
from tests.ops.faults import apply_future_migration, create_overdue_stage
from tests.support.clock import step_clock
from tests.support.fleet import beat, change
from tests.support.runs import create, read
from vm_webapp import __version__
from vm_webapp.access.actor import Actor
from vm_webapp.db.bundle import bundled_ids
from vm_webapp.db.pool import jsonb
from vm_webapp.db.sessions import name_session
from vm_webapp.fleet.heartbeats import write_workspace
from vm_webapp.fleet.presence import Presence
from vm_webapp.ops import queue_control
from vm_webapp.ops.doctor import Check, examine
from vm_webapp.ops.doctor.server import judge_clock, judge_connections
from vm_webapp.redis_client import quick_client
from vm_webapp.runs import lifecycle
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


def test_where_nothing_is_wrong_everything_is_ok(redis_url: str) -> None:
    worker = beat()
    Presence(quick_client(redis_url, 1.0)).announce(worker.worker_id, {"fingerprint": fingerprint()})
    found = checks(redis_url)
    assert {check.verdict for check in found.values()} == {"ok"}, found
    assert list(found) == NAMES


def fingerprint() -> str:
    """Return this database's fingerprint, as workers write it."""
    return str(read("SELECT fingerprint FROM worker_heartbeats LIMIT 1")[0]["fingerprint"])


def pause_provider(until: str) -> None:
    """Pause Kimi until a time in SQL."""
    change(
        f"INSERT INTO providers (name, paused_at, paused_until, reason) VALUES ('kimi', now(), {until}, %(reason)s)",
        reason=jsonb({"code": "llm_unauthorized", "message": "Invalid Authentication"}),
    )


def restart_often(others: int = 0) -> None:
    """Leave the rows of four workers of one host that have just stopped, and of live ones on other hosts."""
    for _ in range(4):
        beat("stopped", host="loops")
    for number in range(others):
        beat(host=f"host-{number}")


def deploy_half() -> None:
    """Leave a worker of an earlier build and one of this build."""
    beat(build="0.0.1")
    beat()


def fail_the_loop() -> None:
    """Leave a worker whose maintenance loop fails."""
    at = datetime.now(UTC).isoformat()
    beat(last_error={"error": "deadlock detected", "at": at}, counters={"loop_errors": 7})


def refuse_calls() -> None:
    """Leave a worker whose last call was refused."""
    at = datetime.now(UTC).isoformat()
    beat(last_model_outcome={"code": "llm_unauthorized", "message": "Invalid Authentication", "at": at})


@pytest.mark.parametrize(
    ("fault", "name", "verdict", "text", "next"),
    [
        (lambda: beat("draining"), "workers", "fail", "every worker is draining", "start a worker"),
        (lambda: None, "workers", "fail", "no worker has ever used this database", "start one"),
        (deploy_half, "versions", "warn", f"workers 0.0.1, {__version__}", "deploy"),
        (restart_often, "starts", "warn", "4 within 10 minutes on loops, 0 alive", "worker's log"),
        (lambda: restart_often(others=20), "starts", "warn", "4 within 10 minutes on loops, 0", "worker's log"),
        (
            apply_future_migration,
            "schema",
            "fail",
            "9999_from_the_future, too new for this build",
            "deploy a newer one",
        ),
        (fail_the_loop, "loop errors", "warn", "7 times: deadlock detected", "worker.loop_error"),
        (refuse_calls, "last model call", "warn", "Invalid Authentication", "smoke --with-model"),
        (lambda: pause_provider("NULL"), "provider", "fail", "Invalid Authentication", "resume-provider kimi"),
        (lambda: pause_provider("now() + interval '1 m'"), "provider", "warn", "by itself", "wait"),
        (lambda: create_overdue_stage(60), "oldest due", "warn", "the oldest for 60 s", "queue status"),
        (lambda: create_overdue_stage(600), "oldest due", "fail", "the oldest for 600 s", "queue status"),
        (
            lambda: queue_control.pause_queue(reason="a bad prompt", actor=Actor("ops")),
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
            "vm_webapp migrate",
        ),
    ],
)
def test_each_fault_is_found_with_what_to_do_next(
    fault: Callable[[], object], name: str, verdict: str, text: str, next: str
) -> None:
    fault()
    check = checks()[name]
    assert (check.verdict, text in check.detail, next in check.next) == (verdict, True, True), check


def test_four_starts_of_four_live_workers_are_a_deploy() -> None:
    for number in range(4):
        beat(host=f"host-{number}")
    assert checks()["starts"].detail == "4 within 10 minutes on all hosts, 4 alive now"


def test_a_fleet_of_one_build_is_ok_although_the_command_is_of_another() -> None:
    beat(build="9.9.9")
    assert checks()["versions"] == Check("versions", "ok", f"everything alive is 9.9.9; this command is {__version__}")


def test_an_api_of_another_build_is_found(database_url: str) -> None:
    beat()
    with closing(psycopg2.connect(database_url, application_name=name_session("api", "0.0.1"))):
        check = checks()["versions"]
    assert (check.verdict, "APIs run 0.0.1" in check.detail) == ("warn", True), check


def test_a_worker_on_another_database_is_found(redis_url: str) -> None:
    Presence(quick_client(redis_url, 1.0)).announce(uuid4(), {"fingerprint": "elsewhere"})
    facts = {"fingerprint": "elsewhere", "host": "worker-17", "pid": 4711, "build": "1.0.0"}
    Presence(quick_client(redis_url, 1.0)).announce(uuid4(), facts)
    check = checks(redis_url)["one database"]
    assert check.verdict == "fail"
    of_older_build = "one of build unknown"
    said = f"2 of 2 workers use another database than this one: {of_older_build}, worker-17 pid 4711"
    assert check.detail == said
    assert "VM_DB_URL" in check.next


def test_only_the_first_few_of_many_workers_on_another_database_are_named(redis_url: str) -> None:
    for number in range(7):
        facts = {"fingerprint": "elsewhere", "host": f"host-{number}", "pid": 1}
        Presence(quick_client(redis_url, 1.0)).announce(uuid4(), facts)
    assert checks(redis_url)["one database"].detail.endswith("host-3 pid 1, host-4 pid 1, and 2 more")


GIGABYTE = 1024**3


@pytest.mark.parametrize(
    ("facts", "verdict", "text", "next"),
    [
        ({"status": "ok", "free_bytes": 3 * GIGABYTE}, "ok", "all 1 can be written; /data on a-host has 3,072 MB", ""),
        ({"status": "ok", "free_bytes": 1024**2}, "warn", "/data on a-host has 1 MB free: artifacts", "free space"),
        ({"status": "full", "free_bytes": 0}, "warn", "/data on a-host (worker pid 7) is full", "VM_WORKSPACE_ROOT"),
        ({"status": "unwritable", "free_bytes": GIGABYTE}, "warn", "is unwritable", "let the worker's user write"),
        ({"status": "hangs", "free_bytes": None}, "warn", "/data on a-host (worker pid 7) hangs", "check the disk"),
    ],
)
def test_the_workers_own_workspace_is_judged(facts: dict[str, Any], verdict: str, text: str, next: str) -> None:
    beat()
    worker = beat()
    change("UPDATE worker_heartbeats SET pid = 7")
    write_workspace(worker.worker_id, {"folder": "/data", **facts})
    check = checks()["worker workspace"]
    assert (check.verdict, text in check.detail, next in check.next) == (verdict, True, True), check


def test_a_workspace_of_this_machine_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = {check.name: check for check in examine(Settings(workspace_root=tmp_path / "file" / "workspace"), None)}
    check = found["workspace"]
    assert (check.verdict, str(tmp_path) in check.detail) == ("warn", True), check
    assert check.next == "let this user write it, or set VM_WORKSPACE_ROOT to another folder"


@pytest.mark.parametrize(("managed", "verdict"), [(True, "fail"), (False, "warn")])
def test_a_missing_redis_is_a_failure_only_in_managed_mode(managed: bool, verdict: str) -> None:
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


@pytest.mark.parametrize(
    ("used", "verdict", "text"),
    [
        (0, "ok", "0 of 97 in use"),
        (80, "ok", "80 of 97 in use"),
        (81, "warn", "no room for another worker"),
        (96, "warn", "no room for another worker"),
        (97, "fail", "97 of 97 in use"),
        (100, "fail", "100 of 97 in use"),
    ],
)
def test_connections_run_short_before_they_run_out(used: int, verdict: str, text: str) -> None:
    check = judge_connections(used, 97)
    assert (check.verdict, text in check.detail) == (verdict, True), check


@pytest.mark.parametrize(
    ("left", "processes", "verdict"),
    [(17, 1, "ok"), (16, 1, "warn"), (25, 2, "ok"), (24, 2, "warn"), (73, 8, "ok"), (72, 8, "warn")],
)
def test_an_api_of_several_processes_needs_more_connections(left: int, processes: int, verdict: str) -> None:
    check = judge_connections(97 - left, 97, by_apis=5, settings=Settings(web_concurrency=processes))
    assert check.verdict == verdict
    assert "in use, 5 by API processes; " in check.detail
    needs = f"another API needs {8 * processes} (8 a process, WEB_CONCURRENCY {processes}), another worker 6"
    assert needs in check.detail


@pytest.mark.parametrize(("left", "verdict"), [(16 + 24 + 3, "ok"), (16 + 24 + 2, "warn")])
def test_a_rolling_deploy_needs_all_connections_of_the_services_again(left: int, verdict: str) -> None:
    # Nine connections of APIs are more than one API has.
    check = judge_connections(97 - left, 97, by_apis=9, workers=4)
    assert check.verdict == verdict
    assert ("a rolling deploy of 4 workers and 2 APIs needs 43" in check.detail) is (verdict == "warn")


def test_pools_of_other_sizes_need_other_numbers() -> None:
    sizes = Settings(api_connections=4, worker_connections=2)
    assert judge_connections(88, 97, settings=sizes).verdict == "ok"
    assert judge_connections(89, 97, settings=sizes).verdict == "warn"


def test_sessions_of_apis_are_counted_separately(database_url: str) -> None:
    with (
        closing(psycopg2.connect(database_url, application_name=name_session("api", __version__))),
        closing(psycopg2.connect(database_url, application_name=name_session("worker", __version__))),
    ):
        found = {check.name: check for check in examine(Settings(web_concurrency=3), None)}
    assert ", 1 by API processes; another API needs 24 (" in found["connections"].detail


@pytest.mark.parametrize(
    ("difference", "verdict", "text"),
    [
        (0.0, "ok", "0.0 s"),
        (2.0, "ok", "2.0 s behind"),
        (2.1, "warn", "2.1 s behind"),
        (-2.1, "warn", "2.1 s ahead of"),
    ],
)
def test_a_clock_that_is_wrong_is_reported_as_behind_or_ahead(difference: float, verdict: str, text: str) -> None:
    check = judge_clock(difference)
    assert (check.verdict, text in check.detail) == (verdict, True), check


def test_a_clock_of_the_database_that_stepped_back_is_reported(database: str) -> None:
    run_id = create().run.id
    step_clock(database, -600)
    lifecycle.cancel_run_if_open(run_id, actor=Actor("ann"))  # an event with a later id and an earlier time
    check = checks()["clock"]
    assert (check.verdict, "it has stepped back" in check.detail) == ("warn", True), check
