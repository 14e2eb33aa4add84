"""Databases and builds of other versions: emptied databases, builds with further migrations, and dumps of schemas."""

from __future__ import annotations

import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from vm_webapp.db.bundle import MIGRATIONS, Bundle, MigrationFiles, own_bundle
from vm_webapp.local.postgres import find_programs

FURTHER = "0900_further"
NOTES = "CREATE TABLE notes (run_id uuid REFERENCES runs ON DELETE CASCADE, text text NOT NULL);"
COLUMN = "ALTER TABLE runs ADD COLUMN mood text;"


def further(
    id: str = FURTHER,
    *headers: str,
    up: str = f"{NOTES}\n{COLUMN}",
    down: str = "ALTER TABLE runs DROP COLUMN mood;\nDROP TABLE notes;",
    depends: str | None = None,
) -> MigrationFiles:
    """Return a migration that a later build could contain."""
    lines = ["-- One more.", f"-- depends: {depends or own_bundle().ids[-1]}", *(f"-- {header}" for header in headers)]
    return MigrationFiles(id, "\n".join([*lines, "", up, ""]), down)


def compatible(id: str = FURTHER, **texts: Any) -> MigrationFiles:
    """Return a migration on which this build still runs."""
    return further(id, f"oldest build: {own_bundle().ids[-1]}", **texts)


def later_build(*added: MigrationFiles) -> Bundle:
    """Return this build's migrations and more."""
    return Bundle([*own_bundle().migrations.values(), *added])


def build_up_to(id: str) -> Bundle:
    """Return the migrations of the build whose newest is this one."""
    return Bundle(files for files in own_bundle().migrations.values() if files.id <= id)


def write_folder(folder: Path, bundle: Bundle) -> Path:
    """Write a build's migrations into a folder, the hook for plain yoyo included."""
    folder.mkdir(parents=True, exist_ok=True)
    for files in bundle.migrations.values():
        files.write_to(folder)
    (folder / "post-apply.py").write_text((MIGRATIONS / "post-apply.py").read_text())
    return folder


def run_sql(url: str, sql: str) -> list[Any]:
    """Run statements on a connection of their own; return the rows of the last, if it has any."""
    with closing(psycopg2.connect(url)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


def empty(url: str) -> str:
    """Drop everything in a database, yoyo's tables and the archive included; return its URL."""
    run_sql(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return url


def dump(url: str) -> str:
    """Return the schema as pg_dump writes it."""
    done = subprocess.run(
        [find_programs() / "pg_dump", "--schema-only", "--no-owner", url], capture_output=True, text=True, check=True
    )
    # pg_dump writes a random key into these two lines, so they differ from dump to dump.
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def applied(url: str) -> list[str]:
    """Return what is marked as applied, oldest first."""
    return [id for (id,) in run_sql(url, 'SELECT migration_id FROM _yoyo_migration ORDER BY migration_id COLLATE "C"')]
