"""Any build rolls back any migration, and refuses where that would do harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.db.schemas import (
    FURTHER,
    applied,
    build_up_to,
    compatible,
    dump,
    empty,
    further,
    later_build,
    run_sql,
)
from vm_webapp.db import bundle, migrate
from vm_webapp.db.bundle import Bundle, MigrationFiles, own_bundle
from vm_webapp.db.migrate.locks import advisory_lock
from vm_webapp.errors import ConfigurationError, Conflict, InvalidInput, NotFound, VMError
from vm_webapp.fleet.alive import ALIVE
from vm_webapp.fleet.heartbeats import WorkerIdentity

NEWEST = own_bundle().ids[-1]
OLDEST_BUILD = build_up_to("0001_runs_and_stages")


def down(url: str, *, to: str | None = None, steps: int | None = None, **options: object) -> list[str]:
    """Plan and roll back; return the ids that were rolled back."""
    bundle = options.pop("bundle", None)
    assert bundle is None or isinstance(bundle, Bundle)
    plan = migrate.plan_down(url, to=to, steps=steps, bundle=bundle)
    migrate.roll_back(url, plan, alive=None if options.get("force") else ALIVE)
    return [files.id for files in plan.steps]


def test_the_oldest_build_rolls_back_migrations_that_it_does_not_contain(database_url: str) -> None:
    before = dump(database_url)
    migrate.apply_pending(database_url, bundle=later_build(further()))
    assert down(database_url, to=NEWEST, bundle=OLDEST_BUILD) == [FURTHER]
    assert dump(database_url) == before
    gone = list(reversed(own_bundle().ids[1:]))
    assert down(database_url, to="0001_runs_and_stages", bundle=OLDEST_BUILD) == gone
    assert applied(database_url) == ["0001_runs_and_stages"]
    assert "idempotency_keys" not in dump(database_url)


def test_what_was_applied_is_rolled_back_even_when_the_build_differs(database_url: str) -> None:
    before = dump(database_url)
    migrate.apply_pending(database_url, bundle=later_build(further()))
    edited = later_build(further(up="SELECT 1;", down="DROP TABLE runs CASCADE;"))
    assert migrate.read_status(database_url, edited).edited == (FURTHER,)
    assert down(database_url, steps=1, bundle=edited) == [FURTHER]
    assert dump(database_url) == before


def test_plain_yoyo_rolls_back_from_an_exported_folder(database_url: str, tmp_path: Path) -> None:
    before = dump(database_url)
    migrate.apply_pending(database_url, bundle=later_build(further()))
    folder = tmp_path / "out"
    written = migrate.export_applied(database_url, folder, OLDEST_BUILD)
    assert [files.id for files in written] == [*own_bundle().ids, FURTHER]
    done = subprocess.run(
        [sys.executable, "-m", "yoyo", "rollback", "--batch", "-d", database_url, "--revision", FURTHER, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LOGNAME": "tests"},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert dump(database_url) == before


def test_an_export_into_a_folder_in_use_writes_nothing(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="is not empty"):
        migrate.export_applied(database_url, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InvalidInput, match="cannot be written"):
        migrate.export_applied(database_url, tmp_path / "mine.txt" / "below")


@pytest.mark.parametrize(
    ("how_far", "error", "message"),
    [
        ({"to": "0000_nowhere"}, NotFound, "0000_nowhere is not among the applied migrations"),
        ({"steps": 99}, InvalidInput, "there are only"),
    ],
)
def test_a_target_that_is_not_there_is_refused(
    database_url: str, how_far: dict[str, object], error: type[VMError], message: str
) -> None:
    before = applied(database_url)
    with pytest.raises(error, match=message):
        down(database_url, **how_far)  # type: ignore[arg-type]
    assert applied(database_url) == before


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (
            further("0900_lossy", "irreversible: the old names are gone"),
            "0900_lossy cannot be .*: the old names are gone",
        ),
        (further("0900_lossy", down=""), "0900_lossy cannot be rolled back: it has no rollback file"),
        (further("0900_lossy", down="-- later\n"), "0900_lossy cannot be rolled back: it has no rollback file"),
    ],
    ids=["irreversible", "no rollback", "an empty rollback"],
)
def test_nothing_is_rolled_back_past_a_step_that_cannot_be(
    database_url: str, first: MigrationFiles, message: str
) -> None:
    second = further("0901_more", up="SELECT 1;", down="SELECT 1;", depends="0900_lossy")
    migrate.apply_pending(database_url, bundle=later_build(first, second))
    with pytest.raises(Conflict, match=message):
        down(database_url, to=NEWEST)
    assert applied(database_url)[-2:] == ["0900_lossy", "0901_more"]
    assert down(database_url, to="0900_lossy") == ["0901_more"]


def test_without_an_archive_only_the_builds_own_migrations_go(database_url: str, tmp_path: Path) -> None:
    migrate.apply_pending(database_url, bundle=later_build(further()))
    run_sql(database_url, "DROP TABLE _migration_archive")
    with pytest.raises(Conflict, match=f"the files of {FURTHER} are neither in the archive nor in this build"):
        down(database_url, steps=1)
    with pytest.raises(Conflict, match=f"the files of {FURTHER} are neither"):
        migrate.export_applied(database_url, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert down(database_url, steps=1, bundle=later_build(further())) == [FURTHER]
    assert down(database_url, steps=1) == [NEWEST]


def test_a_migration_that_stays_may_be_without_files(database_url: str) -> None:
    run_sql(database_url, "DELETE FROM _migration_archive WHERE migration_id = '0001_runs_and_stages'")
    gone, *stay = reversed(own_bundle().ids)
    own = Bundle(files for files in own_bundle().migrations.values() if files.id != stay[-1])
    assert down(database_url, steps=1, bundle=own) == [gone]
    assert applied(database_url) == stay[::-1]


def test_what_yoyo_does_not_find_is_not_reported_as_rolled_back(database_url: str) -> None:
    migrate.apply_pending(database_url, bundle=later_build(further()))
    # yoyo looks a migration up by a hash of its id, and silently skips what it does not find.
    run_sql(database_url, f"UPDATE _yoyo_migration SET migration_hash = 'f' WHERE migration_id = '{FURTHER}'")
    before = dump(database_url)
    with pytest.raises(migrate.MigrationFailed, match=f"{FURTHER} .* hash"):
        down(database_url, steps=2)
    with pytest.raises(migrate.MigrationFailed, match=f"{FURTHER} .* hash"):
        migrate.apply_pending(database_url, bundle=later_build(further(), further("0901_next", depends=FURTHER)))
    assert dump(database_url) == before
    assert applied(database_url) == [*own_bundle().ids, FURTHER]


def test_down_is_refused_while_another_process_migrates(database_url: str) -> None:
    plan = migrate.plan_down(database_url, steps=1)
    with advisory_lock(database_url), pytest.raises(Conflict, match="another process is migrating"):
        migrate.roll_back(database_url, plan, alive=ALIVE)


def test_a_plan_that_no_longer_fits_is_refused(database_url: str) -> None:
    plan = migrate.plan_down(database_url, steps=1)
    migrate.apply_pending(database_url, bundle=later_build(compatible()))
    with pytest.raises(Conflict, match="the schema has changed since"):
        migrate.roll_back(database_url, plan, alive=ALIVE)
    assert applied(database_url)[-1] == FURTHER


def test_a_rollback_that_the_database_refuses_leaves_that_migration_whole(database_url: str) -> None:
    bad = further(down="DROP TABLE notes;\nDROP TABLE nothing_like_that;")
    last = further("0901_last", up="CREATE TABLE last (id int);", down="DROP TABLE last;", depends=FURTHER)
    migrate.apply_pending(database_url, bundle=later_build(bad, last))
    with pytest.raises(migrate.MigrationFailed, match=f'rolling back {FURTHER} failed: .*"nothing_like_that"'):
        down(database_url, to=NEWEST)
    assert applied(database_url)[-1] == FURTHER
    assert "CREATE TABLE public.notes" in dump(database_url)


def test_everything_can_be_rolled_back(database_url: str) -> None:
    assert down(database_url, steps=len(own_bundle().ids)) == list(reversed(own_bundle().ids))
    assert applied(database_url) == []
    assert "CREATE TABLE public.runs" not in dump(database_url)


@pytest.mark.parametrize("act", [migrate.read_status, migrate.pending_files, migrate.apply_pending])
def test_a_build_without_migrations_touches_nothing(database_url: str, act: object) -> None:
    assert callable(act)
    empty(database_url)
    with pytest.raises(migrate.MigrationFailed, match="this installation has no migrations"):
        act(database_url, bundle=Bundle([]))
    with pytest.raises(migrate.MigrationFailed, match="this installation has no migrations"):
        migrate.plan_down(database_url, steps=1, bundle=Bundle([]))
    assert "CREATE TABLE" not in dump(database_url)


def test_a_worker_of_an_installation_without_migrations_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "own_bundle", lambda: Bundle([]))
    with pytest.raises(ConfigurationError, match="this installation has no migrations"):
        WorkerIdentity(uuid4(), "kimi", 4)
