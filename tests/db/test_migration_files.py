"""What every migration of this build has to have before it may be released."""

from __future__ import annotations

import pytest

from vm_webapp.db.bundle import MIGRATIONS, Bundle, MigrationFiles, own_bundle, read_bundle

ALL = list(own_bundle().migrations.values())
BEFORE = dict(zip(own_bundle().ids[1:], own_bundle().ids, strict=False))

every_migration = pytest.mark.parametrize("files", ALL, ids=lambda files: files.id)


@every_migration
def test_a_migration_can_be_rolled_back_or_states_why_not(files: MigrationFiles) -> None:
    assert files.has_rollback or files.irreversible


@every_migration
def test_a_migration_names_the_oldest_build_that_runs_on_it(files: MigrationFiles) -> None:
    assert "-- oldest build: " in files.up
    assert files.oldest_build in own_bundle().ids
    assert files.oldest_build <= files.id


@every_migration
def test_a_migration_depends_on_the_one_before_it(files: MigrationFiles) -> None:
    assert f"-- depends: {BEFORE.get(files.id, '')}".strip() in [line.strip() for line in files.up.splitlines()]


@every_migration
def test_nothing_follows_the_last_statement(files: MigrationFiles) -> None:
    # yoyo executes what follows the last semicolon, and psycopg2 refuses a comment alone as an empty query.
    for text in (files.up, files.down):
        assert text.rstrip().endswith(";")


def test_migrations_are_sql_only() -> None:
    others = {path.name for path in MIGRATIONS.iterdir() if path.is_file() and path.suffix != ".sql"}
    assert others == {"post-apply.py"}


def test_every_rollback_belongs_to_a_migration() -> None:
    rollbacks = {path.name.removesuffix(".rollback.sql") for path in MIGRATIONS.glob("*.rollback.sql")}
    assert rollbacks <= set(own_bundle().ids)


@pytest.mark.parametrize(
    ("down", "has"), [("", False), ("\n-- nothing yet\n", False), ("-- why\nDROP TABLE x;\n", True)]
)
def test_a_rollback_of_comments_is_none(down: str, has: bool) -> None:
    assert MigrationFiles("0001_x", "CREATE TABLE x ();", down).has_rollback is has


def test_headers_stand_above_the_first_statement() -> None:
    files = MigrationFiles("0009_x", "-- About.\n--oldest build:  0008_y\n\nSELECT 1;\n-- irreversible: no\n", "")
    assert files.oldest_build == "0008_y"
    assert files.irreversible is None
    assert not files.deferrable


def test_without_a_header_only_builds_that_contain_a_migration_run_on_it() -> None:
    assert MigrationFiles("0009_x", "SELECT 1;", "").oldest_build == "0009_x"


def test_a_missing_folder_is_an_empty_bundle() -> None:
    assert read_bundle(MIGRATIONS / "nowhere").ids == Bundle([]).ids == ()
