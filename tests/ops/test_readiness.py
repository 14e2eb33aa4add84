"""Readiness by the state of the database, Redis, schema, model, clock and workspace; each reason says what to do."""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import redis

from tests.ops.faults import apply_future_migration, create_overdue_stage, reopen_pool
from tests.ops.readiness import Clock, check, checker, reason
from tests.support.fleet import beat, change
from vm_webapp.db import pool
from vm_webapp.db.bundle import Bundle, MigrationFiles, own_bundle
from vm_webapp.db.connections import TRUSTED_SECONDS
from vm_webapp.db.pool import open_pool, transaction
from vm_webapp.ops.health import MOST_SKEW_SECONDS, WORKSPACE_EVERY_SECONDS, HealthChecker
from vm_webapp.ops.workspace import check_workspace
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


def test_a_redis_that_does_not_respond_is_reported_and_stays_ready() -> None:
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


def test_a_paused_provider_is_reported_and_stays_ready() -> None:
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


def test_a_database_that_is_down_is_one_reason_without_its_address() -> None:
    open_pool("postgresql://somebody@127.0.0.1:1/nothing", max_connections=2, application_name="tests")
    health = check()
    assert "the database does not respond" in reason(health)
    shown = str(health.body(private=False))
    assert "127.0.0.1" not in shown
    assert "somebody" not in shown


@pytest.mark.parametrize("ahead", [MOST_SKEW_SECONDS + 1, -MOST_SKEW_SECONDS - 1])
def test_a_clock_that_is_wrong_is_reported_and_stays_ready(ahead: float) -> None:
    beat()
    health = HealthChecker(Settings(), None, wall_clock=lambda: time.time() + ahead).check()
    assert health.ready
    assert health.dependencies["clock"]["status"] == "skewed"
    assert health.dependencies["clock"]["seconds_ahead"] == pytest.approx(ahead, abs=0.5)


def test_a_clock_that_is_right_is_ok() -> None:
    beat()
    assert check().dependencies["clock"] == {"status": "ok"}


def test_a_workspace_that_cannot_be_written_is_reported_without_its_path_and_stays_ready(tmp_path: Path) -> None:
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


def test_a_full_disk_is_reported_and_stays_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beat()
    # The kernel fails every write to this device as a full disk does.
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - the check closes it
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
    health = check(workspace_root=tmp_path)
    assert health.ready
    assert health.dependencies["workspace"]["status"] == "full"
    assert "free space" in health.dependencies["workspace"]["note"]
    assert list(tmp_path.iterdir()) == []


def test_the_check_of_the_workspace_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "root" / ".probe").symlink_to(tmp_path / "theirs")
    assert check_workspace(tmp_path / "root") == {"status": "ok"}
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".probe"]


def test_connections_that_the_server_ended_are_replaced(database: str) -> None:
    beat()
    own = checker(Clock())
    assert own.check().ready
    ours = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tests'"
    with closing(psycopg2.connect(database, application_name="an administrator")) as own_session:
        cursor = own_session.cursor()
        cursor.execute(f"SELECT pg_terminate_backend(pid, 5000) {ours}")
        assert cursor.fetchall() == [(True,)]
    time.sleep(TRUSTED_SECONDS)
    assert own.check().ready


def test_an_exhausted_pool_has_a_reason_of_its_own(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    beat()
    monkeypatch.setattr(pool, "WAIT_FOR_CONNECTION_SECONDS", 0.2)
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
        why = "process is taken: look in pg_stat_activity for statements that take long"
        assert f"every database connection of this {why}" in reason(check())
    finally:
        over.set()
        holder.join()
    assert check().ready


def test_hosts_are_shown_only_to_authenticated_callers() -> None:
    worker = beat()
    assert worker.host not in str(check().body(private=False))
    assert worker.host in str(check().body(private=True))


@pytest.mark.parametrize("table", ["providers", "worker_heartbeats", "queues", "stages"])
def test_a_missing_table_is_a_schema_that_was_changed_by_hand(table: str) -> None:
    beat()
    create_overdue_stage()
    change(f"DROP TABLE {table} CASCADE")
    health = check()
    assert f'the schema is not what its migrations say (relation "{table}" does not exist): run' in reason(health)
    statuses = {name: health.dependencies[name]["status"] for name in ("database", "clock", "migrations", "worker")}
    assert statuses == {"database": "ok", "clock": "ok", "migrations": "incompatible", "worker": "unknown"}


def test_a_role_without_rights_is_not_told_to_migrate(unprivileged_url: str) -> None:
    change("GRANT SELECT ON _yoyo_migration, _migration_archive TO unprivileged")
    reopen_pool(unprivileged_url)
    assert reason(check()) == "permission denied for table providers: grant the role of VM_DB_URL what it needs"


def test_a_locked_table_is_not_a_database_that_is_down(database_url: str) -> None:
    beat()
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute("LOCK TABLE worker_heartbeats")
        health = check()
    assert reason(health).startswith("a lock on the table worker_heartbeats holds work up: python -m vm_webapp doctor")
    assert health.dependencies["database"]["status"] == "busy"
    assert health.dependencies["migrations"]["status"] == "ok"
    assert check().ready


def test_a_schema_that_is_too_new_is_not_ready() -> None:
    beat()
    apply_future_migration()
    health = check()
    assert "9999_from_the_future, too new for this build: deploy a newer one" in reason(health)
    assert health.dependencies["migrations"]["newer"] == ["9999_from_the_future"]


def test_a_pending_migration_that_can_wait_is_reported_and_stays_ready() -> None:
    beat()
    index = MigrationFiles("0099_an_index", "-- deferrable: it only makes things quicker\nSELECT 1", "")
    bundle = Bundle([*own_bundle().migrations.values(), index])
    health = HealthChecker(Settings(), None, bundle=bundle).check()
    assert health.ready
    assert health.dependencies["migrations"]["status"] == "pending"
    assert "0099_an_index can still be applied: run python -m vm_webapp migrate" in str(health.body(private=False))


@pytest.mark.parametrize(("managed", "status"), [(True, "not_configured"), (False, "offline")])
def test_a_model_without_a_key_is_reported_and_stays_ready(managed: bool, status: str) -> None:
    beat()
    health = check(managed=managed)
    assert health.ready
    assert health.dependencies["llm"]["status"] == status
    assert "set KIMI_API_KEY" in health.dependencies["llm"]["note"]
    assert check(managed=managed, kimi_api_key="k").dependencies["llm"]["status"] == "ok"
