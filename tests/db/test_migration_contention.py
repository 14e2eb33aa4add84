"""Migrations beside other sessions: a few attempts, then a line that names who is in the way; and other refusals."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest

from tests.db.schemas import FURTHER, applied, dump, further, later_build, run_sql
from tests.support.waiting import eventually
from vm_webapp.db import migrate
from vm_webapp.db.migrate import attempts
from vm_webapp.errors import Conflict


def raising(sqlstate: str, message: str) -> str:
    """Return a statement that fails with a SQLSTATE, as PostgreSQL does for a fault of the machine."""
    return f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = '{message}'; END $$;"


@contextmanager
def reader_for(url: str, seconds: float) -> Iterator[None]:
    """Hold a transaction that has read ``runs``, for some seconds."""
    with closing(psycopg2.connect(url)) as session:
        with session.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM runs")
        timer = threading.Timer(seconds, session.rollback)
        timer.start()
        yield
        timer.join()


def test_a_query_of_two_seconds_does_not_fail_a_deploy(database_url: str) -> None:
    said: list[str] = []
    with reader_for(database_url, 2.0):
        build, patience = later_build(further()), migrate.Patience(say=said.append)
        assert migrate.apply_pending(database_url, bundle=build, patience=patience) == (FURTHER,)
    assert f"{FURTHER} was stopped by another session and is tried again in 0.5 s: pid" in said[0]


def test_a_rollback_is_tried_again_too(database_url: str) -> None:
    migrate.apply_pending(database_url, bundle=later_build(further()))
    plan = migrate.plan_down(database_url, steps=1)
    with reader_for(database_url, 2.0):
        migrate.roll_back(database_url, plan, alive=None)
    assert FURTHER not in applied(database_url)


@pytest.mark.parametrize("state", ["idle in transaction", "active"])
def test_the_session_in_the_way_is_named(database_url: str, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    monkeypatch.setattr(attempts, "PAUSES", (0.1,))
    before = dump(database_url)
    with closing(psycopg2.connect(database_url, application_name="a long report")) as session:
        with session.cursor() as cursor:
            cursor.execute("SELECT count(*) AS counted FROM runs")
        pid = session.info.backend_pid
        if state == "active":
            threading.Thread(target=_sleep, args=(session,), daemon=True).start()
        with pytest.raises(Conflict) as refused:
            migrate.apply_pending(database_url, bundle=later_build(further()))
        run_sql(database_url, f"SELECT pg_terminate_backend({pid}, 5000)")
    line = str(refused.value)
    assert line.startswith(
        f"{FURTHER} failed: a table was in use for longer than 1s; nothing of it was done; in the way:"
    )
    assert f"pid {pid} of user postgres application a long report" in line
    assert ("counted FROM runs" if state != "active" else "pg_sleep") in line
    assert ", since 20" in line
    assert f"SELECT pg_terminate_backend({pid})" in line
    assert "\n" not in line
    assert dump(database_url) == before
    assert migrate.apply_pending(database_url, bundle=later_build(further())) == (FURTHER,)


def _sleep(session: Any) -> None:
    with pytest.raises(psycopg2.Error), session.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(60)")


def test_a_waiting_session_is_not_blamed_for_the_one_it_waits_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "PAUSES", ())
    with closing(psycopg2.connect(database_url)) as first, closing(psycopg2.connect(database_url)) as second:
        with first.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM runs")
        queued = threading.Thread(target=_lock, args=(second,), daemon=True)
        queued.start()
        eventually(lambda: run_sql(database_url, "SELECT 1 FROM pg_locks WHERE NOT granted"), "a session that waits")
        try:
            with pytest.raises(Conflict, match=rf"SELECT pg_terminate_backend\({first.info.backend_pid}\)"):
                migrate.apply_pending(database_url, bundle=later_build(further()))
        finally:
            first.rollback()
            queued.join(10)
            second.rollback()


def _lock(session: Any) -> None:
    with session.cursor() as cursor:
        cursor.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")


@pytest.mark.parametrize("times", [2, 99])
def test_a_deadlock_is_tried_again(database_url: str, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    monkeypatch.setattr(attempts, "PAUSES", (0.0, 0.0))
    run_sql(database_url, "CREATE SEQUENCE deadlocks")
    # A sequence is not rolled back, so it counts the attempts.
    fails = raising("40P01", "deadlock detected").replace("BEGIN", f"BEGIN IF nextval('deadlocks') <= {times} THEN", 1)
    build = later_build(further(up=f"CREATE TABLE notes ();\n{fails.replace('END $$', 'END IF; END $$')}"))
    if times == 2:
        assert migrate.apply_pending(database_url, bundle=build) == (FURTHER,)
        return
    with pytest.raises(Conflict, match="was in a deadlock with another session; nothing of it was done; try again"):
        migrate.apply_pending(database_url, bundle=build)
    assert run_sql(database_url, "SELECT to_regclass('notes') IS NULL, nextval('deadlocks')") == [(True, 4)]


def test_a_real_deadlock_does_not_fail_a_deploy(database_url: str) -> None:
    up = "LOCK TABLE stages;\nSELECT pg_sleep(0.6);\nALTER TABLE runs ADD COLUMN mood text;"
    build = later_build(further(up=up, down="ALTER TABLE runs DROP COLUMN mood;"))
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        cursor.execute("SET deadlock_timeout = '30s'; SELECT count(*) FROM runs")
        crossing = threading.Thread(target=_read_stages, args=(other, database_url))
        crossing.start()
        assert migrate.apply_pending(database_url, bundle=build) == (FURTHER,)
        crossing.join()


def _read_stages(session: Any, url: str) -> None:
    locked = "SELECT 1 FROM pg_locks WHERE relation = 'stages'::regclass AND mode = 'AccessExclusiveLock' AND granted"
    eventually(lambda: run_sql(url, locked), "a migration that has locked stages")
    with session.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM stages")
    session.rollback()


def test_the_mark_commits_with_the_migration(database_url: str) -> None:
    up = "CREATE TABLE notes AS SELECT pg_current_xact_id()::xid AS id;"
    migrate.apply_pending(database_url, bundle=later_build(further(up=up, down="DROP TABLE notes;")))
    same = f"SELECT y.xmin = n.id FROM _yoyo_migration y, notes n WHERE migration_id = '{FURTHER}'"
    assert run_sql(database_url, same) == [(True,)]


def test_a_full_disk_is_named_as_that(database_url: str) -> None:
    full = raising("53100", "could not extend file: No space left on device")
    with pytest.raises(migrate.MigrationFailed) as failed:
        migrate.apply_pending(database_url, bundle=later_build(further(up=full)))
    assert str(failed.value) == (
        f"{FURTHER} failed: the database's disk is full (could not extend file: No space left on device):"
        " free space or take a larger one, then try again"
    )


def test_a_server_without_memory_is_not_reported_as_down(database_url: str) -> None:
    with pytest.raises(migrate.MigrationFailed, match=r"out of memory$"):
        migrate.apply_pending(database_url, bundle=later_build(further(up=raising("53200", "out of memory"))))


def test_settings_end_with_the_session_and_are_never_set(database_url: str) -> None:
    run_sql(database_url, "CREATE TABLE seen (name text, setting text, source text)")
    names = "name IN ('lock_timeout', 'statement_timeout', 'client_connection_check_interval')"
    look = f"INSERT INTO seen SELECT name, setting, source FROM pg_settings WHERE {names};"
    migrate.apply_pending(database_url, bundle=later_build(further(up=look, down="SELECT 1;")))
    assert sorted(run_sql(database_url, "TABLE seen")) == [
        ("client_connection_check_interval", "1000", "client"),
        ("lock_timeout", "1000", "client"),
        ("statement_timeout", "900000", "client"),
    ]
    with migrate.session.direct_session(database_url) as session, session.cursor() as cursor:
        cursor.execute("SELECT setting, source FROM pg_settings WHERE name = 'lock_timeout'")
        assert cursor.fetchall() == [("1000", "client")]


def test_migrations_take_no_longer_without_contention(database_url: str) -> None:
    began = time.monotonic()
    migrate.apply_pending(database_url, bundle=later_build(further()))
    assert time.monotonic() - began < attempts.LONG_WAIT_SECONDS
