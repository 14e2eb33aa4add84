"""The doctor beside a database that is down, full, read-only, locked, or not what its migrations made."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.ops.disorder import open_anew
from tests.ops.examination import NAMES, NOWHERE, checks
from tests.support.fleet import beat, change
from vm_webapp.db.pool import execute, open_pool, transaction
from vm_webapp.ops.doctor import Check, examine, server
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


def test_with_the_database_down_redis_is_still_examined(redis_url: str) -> None:
    open_pool("postgresql://nobody@127.0.0.1:1/nothing", max_connections=1, application_name="tests")
    found = checks(redis_url)
    assert list(found) == ["database", "redis", "redis policy"], "the one cause is said once"
    assert (found["database"].verdict, found["redis"].verdict) == ("fail", "ok")
    assert "Connection refused" in found["database"].detail
    assert found["database"].next == "check VM_DB_URL and that PostgreSQL is up"


def test_a_server_without_room_for_a_connection_is_said_to_be_full(poor_url: str) -> None:
    change("ALTER ROLE poor CONNECTION LIMIT 0")
    open_anew(poor_url)
    check = checks()["database"]
    assert (check.verdict, "too many connections" in check.detail) == ("fail", True), check
    assert "scale the services down" in check.next


def test_a_database_that_takes_no_writes_is_named(database_url: str) -> None:
    open_pool(
        f"{database_url}&options=-c%20default_transaction_read_only%3Don", max_connections=1, application_name="tests"
    )
    check = checks()["database"]
    assert (check.verdict, check.detail) == ("fail", "it answers and takes no writes")
    assert "point VM_DB_URL at the primary" in check.next


def test_the_embedded_database_is_said_to_be_that(tmp_path: Path) -> None:
    (database, *_) = examine(Settings(workspace_root=tmp_path), None)
    assert database == Check("database", "ok", f"it answers: the embedded one under {tmp_path}")


@pytest.mark.parametrize("table", ["providers", "worker_heartbeats", "queues"])
def test_a_table_that_is_gone_is_a_schema_that_is_not_what_it_should_be(table: str) -> None:
    beat()
    change(f"DROP TABLE {table}")
    found = checks(NOWHERE)
    assert list(found) == [name for name in NAMES if name != "redis policy"]
    assert (found["database"].verdict, found["schema"].verdict) == ("ok", "fail")
    assert f'the schema is not what its migrations say (relation "{table}" does not exist)' in found["schema"].detail
    assert "where nothing is pending, somebody has changed the schema by hand" in found["schema"].next
    assert found["connections"].verdict == "ok"


def test_a_role_without_rights_is_not_told_to_migrate(poor_url: str) -> None:
    open_anew(poor_url)
    check = checks()["schema"]
    assert (check.verdict, check.detail) == ("fail", "permission denied for table _yoyo_migration")
    assert check.next == "grant the role of VM_DB_URL what it needs"


def test_a_locked_table_hinders_the_checks_that_need_it_and_no_other(database_url: str) -> None:
    beat()
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute("LOCK TABLE worker_heartbeats")
        found = checks()
    locked = [check for check in found.values() if check.detail == "canceling statement due to lock timeout"]
    assert {check.name for check in locked} == {
        "loop errors",
        "starts",
        "queue",
        "oldest due",
        "last model call",
        "versions",
    }
    assert {check.next for check in locked} == {"look in pg_stat_activity for the session that holds it"}
    assert [found[name].verdict for name in ("database", "schema", "provider", "connections")] == ["ok"] * 4
    assert "a table is locked" in found["workers"].detail


def test_sessions_of_other_roles_count_for_one_that_is_not_shown_them(poor_url: str) -> None:
    all_of_them = checks()["connections"].detail
    with transaction():
        execute("SET LOCAL ROLE poor")
        assert server.check_connections().detail == all_of_them


def test_an_empty_database_is_one_that_was_not_migrated() -> None:
    change("DROP SCHEMA public CASCADE")
    change("CREATE SCHEMA public")
    found = checks()
    assert (found["database"].verdict, found["schema"].verdict) == ("ok", "fail")
    assert "vm_webapp migrate" in found["schema"].next
