"""The schema: up, down, up again; and Peewee's models fit it."""

from __future__ import annotations

import getpass
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from yoyo import get_backend, read_migrations

from tests.support.databases import url_of
from vm_webapp.db import bundle, migrate
from vm_webapp.db.models import TABLES
from vm_webapp.db.pool import rows, transaction
from vm_webapp.errors import Conflict, DatabaseUnavailable
from vm_webapp.local import LocalServers
from vm_webapp.local.postgres import _find_programs


def dump(url: str) -> str:
    done = subprocess.run(
        [_find_programs() / "pg_dump", "--schema-only", "--no-owner", url], capture_output=True, text=True, check=True
    )
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def test_down_and_up_again_leave_the_same_schema(database_url: str) -> None:
    before = dump(database_url)
    with closing(get_backend(database_url).connection):
        backend = get_backend(database_url)
        backend.rollback_migrations(backend.to_rollback(read_migrations(str(bundle.MIGRATIONS))))
        backend.connection.close()
    assert "CREATE TABLE public.runs" not in dump(database_url)
    assert migrate.apply_pending(database_url) == bundle.bundled_ids()
    assert dump(database_url) == before


def test_every_migration_has_a_rollback_and_names_what_it_depends_on() -> None:
    for id in bundle.bundled_ids():
        assert (bundle.MIGRATIONS / f"{id}.rollback.sql").read_text().strip()
        assert "-- depends:" in (bundle.MIGRATIONS / f"{id}.sql").read_text()


def test_applying_twice_changes_nothing(database_url: str) -> None:
    assert migrate.apply_pending(database_url) == ()
    assert migrate.read_status(database_url).pending == ()


def test_only_one_process_migrates_at_a_time(database_url: str) -> None:
    with migrate._advisory_lock(database_url), pytest.raises(Conflict, match="another process is migrating"):
        migrate.apply_pending(database_url)


def test_a_leftover_lock_is_reported_and_removed_by_unlock(servers: LocalServers, database_url: str) -> None:
    empty = url_of(servers, "postgres")
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 12345)")
        cursor.execute("DELETE FROM _yoyo_migration")
        session.commit()
    with pytest.raises(Conflict, match="migrate unlock"):
        migrate.apply_pending(database_url)
    assert migrate.unlock(database_url)
    assert not migrate.unlock(database_url)
    assert not migrate.unlock(empty)


def test_a_database_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(DatabaseUnavailable):
        migrate.read_status("postgresql://nobody@127.0.0.1:1/nothing")


def test_a_user_without_a_name_can_migrate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setenv("LOGNAME", "")
    migrate._name_the_user()
    monkeypatch.undo()


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.__name__)
def test_models_name_exactly_the_columns_that_there_are(model: Any) -> None:
    with transaction():
        found = rows(
            "SELECT column_name, is_nullable FROM information_schema.columns WHERE table_name = %(table)s",
            table=model._meta.table_name,
        )
    assert {column["column_name"] for column in found} == {field.column_name for field in model._meta.sorted_fields}
    assert {column["column_name"] for column in found if column["is_nullable"] == "YES"} == {
        field.column_name for field in model._meta.sorted_fields if field.null
    }
