"""The archive: the whole files of every migration that a database has had, so that any build can roll it back.

Its table is made like yoyo's own, by code and once. It is never migrated: builds of any age read and write it.
"""

from __future__ import annotations

from typing import Any

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
INSERT INTO _migration_archive AS a (migration_id, up_sql, down_sql, sha256, oldest_build)
VALUES (%(id)s, %(up)s, %(down)s, %(sha256)s, %(oldest_build)s)
ON CONFLICT (migration_id) DO UPDATE
   SET up_sql = excluded.up_sql, down_sql = excluded.down_sql, sha256 = excluded.sha256,
       oldest_build = excluded.oldest_build, archived_at = excluded.archived_at
"""
# A row outlives a rollback. Of a migration that is applied it may be replaced only if it is about an earlier time.
UNLESS_IT_STILL_APPLIES = """
 WHERE EXISTS (SELECT FROM _yoyo_log l
                WHERE l.migration_id = a.migration_id AND l.operation IN ('rollback', 'unmark')
                  AND l.created_at_utc > a.archived_at AT TIME ZONE 'UTC')
"""


def archive_before_apply(session: Any, migration: MigrationFiles) -> None:
    """Keep the files of a migration that is about to be applied."""
    _create(session)
    _keep(session, KEEP, migration)


def archive_applied(session: Any, bundle: Bundle) -> None:
    """Keep the files of those migrations of a bundle that are applied and not in the archive yet.

    What was applied by plain ``yoyo`` comes in this way, through ``migrations/post-apply.py``.
    """
    _create(session)
    applied = {found["migration_id"] for found in query(session, "SELECT migration_id FROM _yoyo_migration")}
    for id in bundle.ids:
        if id in applied:
            _keep(session, KEEP + UNLESS_IT_STILL_APPLIES, bundle.migrations[id])


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


def _keep(session: Any, statement: str, migration: MigrationFiles) -> None:
    with session.cursor() as cursor:
        cursor.execute(
            statement,
            {
                "id": migration.id,
                "up": migration.up,
                "down": migration.down,
                "sha256": migration.sha256,
                "oldest_build": migration.oldest_build,
            },
        )
