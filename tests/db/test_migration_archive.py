"""The archive: filled before the product applies migrations, and by yoyo's hook when plain yoyo applies them."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.db.schemas import FURTHER, build_up_to, dump, empty, further, later_build, run_sql, write_folder
from vm_webapp.db import migrate
from vm_webapp.db.bundle import MigrationFiles, own_bundle

ROOT = Path(__file__).resolve().parents[2]
NEXT = "0901_next"
KEPT = "SELECT migration_id, up_sql, down_sql, sha256, oldest_build FROM _migration_archive ORDER BY 1"


def yoyo(url: str, *arguments: str, sources: Path) -> None:
    """Run plain yoyo through the product's own yoyo.ini."""
    command = [sys.executable, "-m", "yoyo", *arguments, "--batch", "--config", str(ROOT / "yoyo.ini"), str(sources)]
    environment = {**os.environ, "VM_DB_URL": url, "LOGNAME": "tests"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def following(up: str) -> MigrationFiles:
    """Return a migration that follows the further one."""
    return further(NEXT, up=up, down="SELECT 1;", depends=FURTHER)


def files_of_this_build() -> list[tuple[str, ...]]:
    """Return what the archive should contain."""
    return [(m.id, m.up, m.down, m.sha256, m.oldest_build) for m in own_bundle().migrations.values()]


def test_the_whole_files_are_kept_with_their_digest_and_oldest_build(database_url: str) -> None:
    assert run_sql(database_url, KEPT) == files_of_this_build()
    assert migrate.read_status(database_url).unarchived == ()


def test_the_files_are_kept_before_the_migration_runs(database_url: str) -> None:
    reading = further(up="CREATE TABLE seen AS SELECT migration_id FROM _migration_archive;", down="DROP TABLE seen;")
    migrate.apply_pending(database_url, bundle=later_build(reading))
    assert (FURTHER,) in run_sql(database_url, "TABLE seen")


def test_the_files_of_a_migration_that_failed_are_removed(database_url: str) -> None:
    migrate.apply_pending(database_url, bundle=later_build(further()))
    with pytest.raises(migrate.MigrationFailed, match=f'^{NEXT} failed: .*"nothing_like_that"'):
        migrate.apply_pending(
            database_url, bundle=later_build(further(), following("SELECT 1 FROM nothing_like_that;"))
        )
    assert [id for id, *_ in run_sql(database_url, KEPT)] == [*own_bundle().ids, FURTHER]


def test_what_was_corrected_after_a_kill_and_applied_by_plain_yoyo_is_kept_as_it_was_applied(
    database_url: str, tmp_path: Path
) -> None:
    migrate.apply_pending(database_url, bundle=later_build(further()))
    # What a kill leaves: yoyo has marked nothing, and the archive has the files of the attempt.
    run_sql(database_url, f"DELETE FROM _yoyo_migration WHERE migration_id = '{FURTHER}'; DROP TABLE notes")
    corrected = later_build(further(up="CREATE TABLE corrected ();", down="DROP TABLE corrected;"))
    yoyo(database_url, "apply", sources=write_folder(tmp_path / "corrected", corrected))
    assert migrate.read_status(database_url, corrected).edited == ()
    assert migrate.plan_down(database_url, steps=1).steps[0].down == "DROP TABLE corrected;"


@pytest.mark.parametrize("hours", [-2, 2])
def test_the_hook_keeps_what_was_applied_even_if_the_clock_was_wrong(
    database_url: str, tmp_path: Path, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=hours)

    with monkeypatch.context() as patch:
        patch.setattr("yoyo.backends.base.datetime", Clock)
        migrate.apply_pending(database_url, bundle=later_build(further(up="SELECT 1;")))
    edited = later_build(further(up="SELECT 2;"), following("SELECT 3;"))
    yoyo(database_url, "apply", sources=write_folder(tmp_path / "edited", edited))
    assert migrate.read_status(database_url, edited).edited == (FURTHER,)


def test_a_database_from_before_the_archive_gets_one(database_url: str) -> None:
    run_sql(database_url, "DROP TABLE _migration_archive")
    assert migrate.read_status(database_url).unarchived == own_bundle().ids
    assert migrate.apply_pending(database_url) == ()
    assert run_sql(database_url, KEPT) == files_of_this_build()


def test_what_plain_yoyo_applies_is_kept_by_its_hook(database_url: str, tmp_path: Path) -> None:
    migrate.apply_pending(empty(database_url))
    by_product = dump(database_url)
    empty(database_url)
    yoyo(database_url, "apply", sources=write_folder(tmp_path / "all", own_bundle()))
    assert run_sql(database_url, KEPT) == files_of_this_build()
    assert dump(database_url) == by_product
    assert migrate.read_status(database_url).pending == ()


def test_the_bundled_folder_works_with_plain_yoyo(database_url: str) -> None:
    empty(database_url)
    yoyo(database_url, "apply", sources=ROOT / "migrations")
    assert run_sql(database_url, KEPT) == files_of_this_build()


def test_the_hook_keeps_what_was_applied_and_replaces_what_was_applied_anew(database_url: str, tmp_path: Path) -> None:
    first, edited = further(up="SELECT 1;"), further(up="SELECT 2;", down="SELECT 2;")
    one, two = later_build(first), later_build(edited, following("SELECT 3;"))
    migrate.apply_pending(database_url, bundle=one)
    folder = write_folder(tmp_path / "edited", two)
    yoyo(database_url, "apply", sources=folder)
    assert migrate.read_status(database_url, two).unarchived == ()
    assert migrate.read_status(database_url, two).edited == (FURTHER,)
    yoyo(database_url, "rollback", "--revision", FURTHER, sources=folder)
    yoyo(database_url, "apply", sources=folder)
    assert migrate.read_status(database_url, two).edited == ()
    assert migrate.read_status(database_url, one).edited == (FURTHER,)


def test_a_migration_that_ran_and_was_not_marked_is_reported_and_yoyo_can_mark_it(
    database_url: str, tmp_path: Path
) -> None:
    build = later_build(further())
    migrate.apply_pending(database_url, bundle=build)
    # What a kill between yoyo's two commits leaves.
    run_sql(database_url, f"DELETE FROM _yoyo_migration WHERE migration_id = '{FURTHER}'")
    with pytest.raises(migrate.MigrationFailed, match=f'^{FURTHER} failed: relation "notes" already exists'):
        migrate.apply_pending(database_url, bundle=build)
    yoyo(database_url, "mark", "--revision", FURTHER, sources=write_folder(tmp_path / "all", build))
    assert migrate.read_status(database_url, build).unarchived == (FURTHER,)
    assert migrate.apply_pending(database_url, bundle=build) == ()
    assert migrate.read_status(database_url, build) == migrate.SchemaStatus((*own_bundle().ids, FURTHER), (), ())


def test_an_older_builds_up_leaves_what_a_newer_one_kept(database_url: str) -> None:
    migrate.apply_pending(database_url, bundle=later_build(further(FURTHER, "oldest build: 0001_runs_and_stages")))
    before = run_sql(database_url, "TABLE _migration_archive")
    assert migrate.apply_pending(database_url, bundle=build_up_to("0001_runs_and_stages")) == ()
    assert run_sql(database_url, "TABLE _migration_archive") == before
