"""Applying: once, by one process at a time, with clear refusals; and Peewee's models fit the schema."""

from __future__ import annotations

import getpass
import os
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from yoyo import get_backend

from tests.db.schemas import FURTHER, compatible, dump, empty, further, later_build, run_sql
from tests.support.databases import url_of
from tests.support.waiting import eventually
from vm_webapp.db import migrate
from vm_webapp.db.migrate import attempts
from vm_webapp.db.migrate.locks import advisory_lock
from vm_webapp.db.migrate.yoyo_runner import name_the_user
from vm_webapp.errors import Conflict, DatabaseUnavailable
from vm_webapp.local import LocalServers


def test_applying_twice_changes_nothing(database_url: str) -> None:
    assert migrate.apply_pending(database_url) == ()
    assert migrate.read_status(database_url).pending == ()


def test_only_one_process_migrates_at_a_time(database_url: str) -> None:
    with advisory_lock(database_url):
        with pytest.raises(Conflict, match="another process is migrating"):
            migrate.apply_pending(database_url, bundle=later_build(further()))
        assert migrate.apply_pending(database_url) == ()


def test_the_lock_is_free_when_its_block_ends(database_url: str) -> None:
    with advisory_lock(database_url) as session, session.cursor() as cursor:
        # The server drops these when the session ends, which delays the end for a while.
        cursor.execute(
            "DO $$ BEGIN FOR n IN 1..500 LOOP EXECUTE format('CREATE TEMP TABLE t%s (id int)', n); END LOOP; END $$"
        )
    with advisory_lock(database_url):
        pass


def test_a_lost_session_does_not_hide_why(database_url: str) -> None:
    def lose(session: Any) -> None:
        run_sql(database_url, f"SELECT pg_terminate_backend({session.info.backend_pid}, 5000)")
        raise KeyError

    with pytest.raises(KeyError), advisory_lock(database_url) as session:
        lose(session)


@pytest.mark.parametrize("migrated", [True, False])
def test_a_read_only_database_is_one_clear_error(database_url: str, migrated: bool) -> None:
    if not migrated:
        empty(database_url)
    name = run_sql(database_url, "SELECT current_database()")[0][0]
    run_sql(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(migrate.MigrationFailed, match=r"cannot execute .* in a read-only transaction$"):
        migrate.apply_pending(database_url, bundle=later_build(further()))


def test_a_lock_row_under_a_live_plain_yoyo_stays(database_url: str) -> None:
    with get_backend(database_url) as plain:
        run_sql(database_url, "INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 12345)")
        plain.get_applied_migration_hashes()
        server_process = plain.connection.info.backend_pid
        with pytest.raises(Conflict, match=rf"process 12345 has yoyo's lock.*pg_terminate_backend\({server_process}\)"):
            migrate.unlock(database_url)
    eventually(
        lambda: not run_sql(database_url, f"SELECT 1 FROM pg_stat_activity WHERE pid = {server_process}"), "an end"
    )
    assert migrate.unlock(database_url)


def test_a_leftover_lock_is_removed_by_unlock(servers: LocalServers, database_url: str) -> None:
    run_sql(database_url, "INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 12345)")
    assert migrate.read_status(database_url).lock_holder == 12345
    assert migrate.unlock(database_url)
    assert not migrate.unlock(database_url)
    assert not migrate.unlock(url_of(servers, "postgres"))


def test_a_database_that_does_not_exist_is_one_clear_error() -> None:
    with pytest.raises(DatabaseUnavailable):
        migrate.read_status("postgresql://tests@127.0.0.1:1/nothing")


def test_a_table_that_stays_in_use_is_one_clear_refusal_and_nothing_is_done(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "PAUSES", ())
    before = dump(database_url)
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM runs")
        with pytest.raises(Conflict, match=f"^{FURTHER} failed: a table was in use for longer than 1s"):
            migrate.apply_pending(database_url, bundle=later_build(further()))
    assert dump(database_url) == before
    assert migrate.apply_pending(database_url, bundle=later_build(further())) == (FURTHER,)


def test_a_migration_that_yoyo_cannot_read_is_reported_and_not_skipped(database_url: str) -> None:
    orphan = further(depends="0899_nowhere")
    with pytest.raises(migrate.MigrationFailed, match="Could not resolve dependencies"):
        migrate.apply_pending(database_url, bundle=later_build(orphan))
    assert migrate.read_status(database_url, later_build(orphan)).pending == (FURTHER,)


def test_migrations_that_depend_on_each_other_are_one_clear_line(database_url: str) -> None:
    cycle = later_build(further(depends="0901_other"), further("0901_other", depends=FURTHER))
    with pytest.raises(migrate.MigrationFailed, match=f"failed: {FURTHER}, 0901_other depend on each other$"):
        migrate.apply_pending(database_url, bundle=cycle)


def test_pending_migrations_are_not_put_on_a_schema_that_is_too_new(database_url: str) -> None:
    migrate.apply_pending(database_url, bundle=later_build(further()))
    build = later_build(compatible("0899_pending", up="SELECT 1;", down="SELECT 1;"))
    with pytest.raises(Conflict, match=f"the database has {FURTHER}, too new for this build"):
        migrate.apply_pending(database_url, bundle=build)
    assert migrate.read_status(database_url, build).pending == ("0899_pending",)


def test_a_schema_that_cannot_be_read_is_one_clear_line(database_url: str) -> None:
    run_sql(database_url, "ALTER TABLE _yoyo_migration RENAME COLUMN migration_id TO other")
    with pytest.raises(migrate.MigrationFailed, match=r'^reading the schema failed: column "migration_id"'):
        migrate.read_status(database_url)


def test_a_user_without_a_name_can_migrate(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setenv("LOGNAME", "")
    name_the_user()
    assert os.environ["LOGNAME"] == "vm-webapp"
