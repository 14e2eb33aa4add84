"""The archive: the files of every migration applied to a database, so that any build can roll it back.

Its table is created by code, like yoyo's own, and never migrated: builds of any age read and write it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import psycopg2

from vm_webapp.db.bundle import Bundle, MigrationFiles
from vm_webapp.db.migrate.session import query

# IF NOT EXISTS does not prevent an error if another session creates the table at the same time.
CREATE = """
DO $$ BEGIN
CREATE TABLE IF NOT EXISTS _migration_archive (
    migration_id text PRIMARY KEY,
    up_sql       text NOT NULL,
    down_sql     text NOT NULL,
    sha256       text NOT NULL,
    oldest_build text NOT NULL,
    archived_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
EXCEPTION WHEN unique_violation OR duplicate_table THEN NULL;
END $$
"""
KEEP = """
INSERT INTO _migration_archive AS a (migration_id, up_sql, down_sql, sha256, oldest_build, archived_at)
VALUES (%(id)s, %(up)s, %(down)s, %(sha256)s, %(oldest_build)s, coalesce(%(applied_at)s, clock_timestamp()))
ON CONFLICT (migration_id) DO UPDATE
   SET up_sql = excluded.up_sql, down_sql = excluded.down_sql, sha256 = excluded.sha256,
       oldest_build = excluded.oldest_build, archived_at = excluded.archived_at
"""
# A row may be stale: it survives a rollback, and the death of a process before the migration ran. It describes what is
# applied now only if its time equals yoyo's mark. "Later" would prove nothing, because yoyo's time comes from the clock
# of the machine that applied the migration.
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
    """Archive the files of a migration before the block applies it; remove them again if the block fails."""
    # Before, not after: a process killed in between would leave an applied migration that no older build can undo.
    _create(session)
    _keep(session, KEEP, migration, applied_at=None)
    try:
        yield
    except Exception:
        with suppress(psycopg2.Error):  # the block's error is the one to report
            _execute(session, FORGET_UNLESS_APPLIED, id=migration.id)
        raise
    _execute(session, STAMP, id=migration.id)


def archive_applied(session: Any, bundle: Bundle) -> None:
    """Archive the files of each migration of a bundle that is applied and has no current row in the archive.

    ``migrations/post-apply.py`` calls this, so that migrations applied by plain ``yoyo`` are archived too.
    """
    _create(session)
    marks = "SELECT migration_id AS id, applied_at_utc AT TIME ZONE 'UTC' AS applied_at FROM _yoyo_migration"
    for found in query(session, marks):
        if found["id"] in bundle.migrations:
            _keep(session, KEEP + UNLESS_IT_APPLIES, bundle.migrations[found["id"]], applied_at=found["applied_at"])


def read_archive(session: Any) -> dict[str, MigrationFiles]:
    """Return the archived migrations by id; empty if there is no archive."""
    if not query(session, "SELECT to_regclass('_migration_archive') IS NOT NULL AS found")[0]["found"]:
        return {}
    return {
        found["id"]: MigrationFiles(**found)
        for found in query(session, "SELECT migration_id AS id, up_sql AS up, down_sql AS down FROM _migration_archive")
    }


def _create(session: Any) -> None:
    # IF NOT EXISTS alone would ask for the right to create tables even where the table exists.
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
