"""The doctor with a database that is down, full, read-only or locked, or whose schema was changed by hand."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.ops.doctor_checks import NAMES, NOWHERE, checks
from tests.ops.faults import reopen_pool
from tests.support.fleet import beat, change
from vm_webapp.db.pool import execute, open_pool, transaction
from vm_webapp.ops.doctor import Check, examine, server
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


def test_with_the_database_down_redis_is_still_examined(redis_url: str) -> None:
    open_pool("postgresql://nobody@127.0.0.1:1/nothing", max_connections=1, application_name="tests")
    found = checks(redis_url)
    assert list(found) == ["database", "redis", "redis policy"], "one cause is reported once"
    assert (found["database"].verdict, found["redis"].verdict) == ("fail", "ok")
    assert "Connection refused" in found["database"].detail
    assert found["database"].next == "check VM_DB_URL and that PostgreSQL is up"


def test_a_server_without_a_free_connection_is_reported_as_full(unprivileged_url: str) -> None:
    change("ALTER ROLE unprivileged CONNECTION LIMIT 0")
    reopen_pool(unprivileged_url)
    check = checks()["database"]
    assert (check.verdict, "too many connections" in check.detail) == ("fail", True), check
    assert "scale the services down" in check.next


def test_a_database_that_accepts_no_writes_is_reported(database_url: str) -> None:
    open_pool(
        f"{database_url}&options=-c%20default_transaction_read_only%3Don", max_connections=1, application_name="tests"
    )
    check = checks()["database"]
    assert (check.verdict, check.detail) == ("fail", "it responds and takes no writes")
    assert "point VM_DB_URL at the primary" in check.next


def test_the_embedded_database_is_named_as_such(tmp_path: Path) -> None:
    (database, *_) = examine(Settings(workspace_root=tmp_path), None)
    assert database == Check("database", "ok", f"it responds: the embedded one under {tmp_path}")


@pytest.mark.parametrize("table", ["providers", "worker_heartbeats", "queues"])
def test_a_missing_table_is_a_schema_that_was_changed_by_hand(table: str) -> None:
    beat()
    change(f"DROP TABLE {table} CASCADE")
    found = checks(NOWHERE)
    assert list(found) == [name for name in NAMES if name != "redis policy"]
    assert (found["database"].verdict, found["schema"].verdict) == ("ok", "fail")
    assert f'the schema is not what its migrations say (relation "{table}" does not exist)' in found["schema"].detail
    assert "if nothing is pending, the schema was changed by hand" in found["schema"].next
    assert found["connections"].verdict == "ok"


def test_a_role_without_rights_is_not_told_to_migrate(unprivileged_url: str) -> None:
    reopen_pool(unprivileged_url)
    check = checks()["schema"]
    assert (check.verdict, check.detail) == ("fail", "permission denied for table _yoyo_migration")
    assert check.next == "grant the role of VM_DB_URL what it needs"


def test_a_locked_table_affects_only_the_checks_that_read_it(database_url: str) -> None:
    beat()
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute("LOCK TABLE worker_heartbeats")
        found = checks()
    locked = {name: check for name, check in found.items() if check.detail.startswith("cannot be checked")}
    assert set(locked) == {
        "workers",
        "loop errors",
        "starts",
        "queue",
        "oldest due",
        "last model call",
        "worker workspace",
        "versions",
    }
    assert {check.verdict for check in locked.values()} == {"warn"}, "the lock is the failure"
    assert {check.next for check in locked.values()} == {"end the session that the check of locks names"}
    assert [found[name].verdict for name in ("database", "schema", "provider", "connections")] == ["ok"] * 4
    lock = found["locks"]
    assert lock.verdict == "fail"
    assert "a lock on the table worker_heartbeats (ACCESS EXCLUSIVE) holds up work: pid " in lock.detail
    assert re.fullmatch(r'psql "\$VM_DB_URL" -c "SELECT pg_terminate_backend\(\d+\)"', lock.next)


def test_a_role_that_may_not_see_other_sessions_counts_them_all_the_same(unprivileged_url: str) -> None:
    all_of_them = checks()["connections"].detail
    with transaction():
        execute("SET LOCAL ROLE unprivileged")
        assert server.check_connections(Settings()).detail == all_of_them


def test_an_empty_database_is_reported_as_not_migrated() -> None:
    change("DROP SCHEMA public CASCADE")
    change("CREATE SCHEMA public")
    found = checks()
    assert (found["database"].verdict, found["schema"].verdict) == ("ok", "fail")
    assert "vm_webapp migrate" in found["schema"].next


def test_an_invalid_index_is_named_with_the_statement_that_drops_it() -> None:
    beat()
    assert checks()["indexes"].verdict == "ok"
    change('CREATE TABLE notes (text text); CREATE INDEX "Odd name" ON notes (text)')
    # What a failed CREATE INDEX CONCURRENTLY leaves in the catalog.
    change("UPDATE pg_index SET indisvalid = false WHERE indexrelid = '\"Odd name\"'::regclass")
    check = checks()["indexes"]
    assert (check.verdict, check.next) == ("warn", 'DROP INDEX CONCURRENTLY public."Odd name"; migrate up')
    assert 'public."Odd name" on notes' in check.detail
