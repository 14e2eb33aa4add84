"""The archive: the whole files of every migration that a database has had, so that any build can roll it back.

Its table is made like yoyo's own, by code and once. It is never migrated: builds of any age read and write it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import psycopg2

from vm_webapp.db.bundle import Bundle, MigrationFiles
from vm_webapp.db.migrate.session import query

CREATE = """
CREATE TABLE IF NOT EXISTS _migration_archive (
    migration_id text PRIMARY KEY,
    up_sql       text NOT NULL,
    down_sql     text NOT NULL,
    sha256       text NOT NULL,
    oldest_build text NOT NULL,
    archived_at  timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
KEEP = """
INSERT INTO _migration_archive AS a (migration_id, up_sql, down_sql, sha256, oldest_build, archived_at)
VALUES (%(id)s, %(up)s, %(down)s, %(sha256)s, %(oldest_build)s, coalesce(%(applied_at)s, clock_timestamp()))
ON CONFLICT (migration_id) DO UPDATE
   SET up_sql = excluded.up_sql, down_sql = excluded.down_sql, sha256 = excluded.sha256,
       oldest_build = excluded.oldest_build, archived_at = excluded.archived_at
"""
# A row outlives a rollback, and a process that is killed. It is about what is applied now if it has the very time that
# yoyo marked it with: equal, not later, because yoyo's clock is that of whoever applied.
UNLESS_IT_APPLIES = " WHERE a.archived_at <> excluded.archived_at"
STAMP = """
UPDATE _migration_archive a SET archived_at = y.applied_at_utc AT TIME ZONE 'UTC'
  FROM _yoyo_migration y WHERE y.migration_id = a.migration_id AND y.migration_id = %(id)s
"""
FORGET_UNLESS_APPLIED = """
DELETE FROM _migration_archive a
 WHERE migration_id = %(id)s AND NOT EXISTS (SELECT FROM _yoyo_migration y WHERE y.migration_id = a.migration_id)
"""


@contextmanager
def archived(session: Any, migration: MigrationFiles) -> Iterator[None]:
    """Keep the files of a migration that the block applies, before it does; forget them when it fails."""
    _create(session)
    _keep(session, KEEP, migration, applied_at=None)
    try:
        yield
    except Exception:
        with suppress(psycopg2.Error):  # The block's error is the one to tell.
            _execute(session, FORGET_UNLESS_APPLIED, id=migration.id)
        raise
    _execute(session, STAMP, id=migration.id)


def archive_applied(session: Any, bundle: Bundle) -> None:
    """Keep the files of those migrations of a bundle that are applied and not in the archive as they were applied.

    What was applied by plain ``yoyo`` comes in this way, through ``migrations/post-apply.py``.
    """
    _create(session)
    marks = "SELECT migration_id AS id, applied_at_utc AT TIME ZONE 'UTC' AS applied_at FROM _yoyo_migration"
    for found in query(session, marks):
        if found["id"] in bundle.migrations:
            _keep(session, KEEP + UNLESS_IT_APPLIES, bundle.migrations[found["id"]], applied_at=found["applied_at"])


def read_archive(session: Any) -> dict[str, MigrationFiles]:
    """Return what is in the archive by id; nothing where there is none."""
    if not query(session, "SELECT to_regclass('_migration_archive') IS NOT NULL AS found")[0]["found"]:
        return {}
    return {
        found["id"]: MigrationFiles(**found)
        for found in query(session, "SELECT migration_id AS id, up_sql AS up, down_sql AS down FROM _migration_archive")
    }


def _create(session: Any) -> None:
    with session.cursor() as cursor:
        cursor.execute("SELECT to_regclass('_migration_archive') IS NOT NULL")
        if not cursor.fetchone()[0]:
            cursor.execute(CREATE)


def _keep(session: Any, statement: str, migration: MigrationFiles, *, applied_at: datetime | None) -> None:
    _execute(
        session,
        statement,
        id=migration.id,
        up=migration.up,
        down=migration.down,
        sha256=migration.sha256,
        oldest_build=migration.oldest_build,
        applied_at=applied_at,
    )


def _execute(session: Any, statement: str, **params: Any) -> None:
    with session.cursor() as cursor:
        cursor.execute(statement, params)
