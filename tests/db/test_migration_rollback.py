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
from vm_webapp.db.migrate.session import advisory_lock
from vm_webapp.db.pool import execute, transaction
from vm_webapp.errors import ConfigurationError, Conflict, InvalidInput, NotFound, VMError
from vm_webapp.runs.heartbeat import FRESH_SECONDS, Beat, WorkerIdentity, WorkerState, write_heartbeat

NEWEST = own_bundle().ids[-1]
OLDEST_BUILD = build_up_to("0001_runs_and_stages")


def down(url: str, *, to: str | None = None, steps: int | None = None, **options: object) -> list[str]:
    """Plan and roll back; return what went."""
    bundle = options.pop("bundle", None)
    assert bundle is None or isinstance(bundle, Bundle)
    plan = migrate.plan_down(url, to=to, steps=steps, bundle=bundle)
    migrate.roll_back(url, plan, heartbeat_seconds=None if options.get("force") else FRESH_SECONDS)
    return [files.id for files in plan.steps]


def test_the_oldest_build_rolls_back_what_it_has_never_heard_of(database_url: str) -> None:
    before = dump(database_url)
    migrate.apply_pending(database_url, bundle=later_build(further()))
    assert down(database_url, to=NEWEST, bundle=OLDEST_BUILD) == [FURTHER]
    assert dump(database_url) == before
    gone = list(reversed(own_bundle().ids[1:]))
    assert down(database_url, to="0001_runs_and_stages", bundle=OLDEST_BUILD) == gone
    assert applied(database_url) == ["0001_runs_and_stages"]
    assert "idempotency_keys" not in dump(database_url)


def test_what_was_applied_is_rolled_back_even_when_the_build_says_otherwise(database_url: str) -> None:
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
    assert migrate.export_applied(database_url, folder, OLDEST_BUILD) == (*own_bundle().ids, FURTHER)
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
    ("how_far", "error", "said"),
    [
        ({"to": "0000_nowhere"}, NotFound, "0000_nowhere is not among the applied migrations"),
        ({"steps": 99}, InvalidInput, "there are only"),
    ],
)
def test_a_target_that_is_not_there_is_refused(
    database_url: str, how_far: dict[str, object], error: type[VMError], said: str
) -> None:
    before = applied(database_url)
    with pytest.raises(error, match=said):
        down(database_url, **how_far)  # type: ignore[arg-type]
    assert applied(database_url) == before


@pytest.mark.parametrize(
    ("first", "said"),
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
def test_nothing_is_rolled_back_past_a_step_that_cannot_be(database_url: str, first: MigrationFiles, said: str) -> None:
    second = further("0901_more", up="SELECT 1;", down="SELECT 1;", depends="0900_lossy")
    migrate.apply_pending(database_url, bundle=later_build(first, second))
    with pytest.raises(Conflict, match=said):
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


def test_down_waits_for_nobody(database_url: str) -> None:
    plan = migrate.plan_down(database_url, steps=1)
    with advisory_lock(database_url), pytest.raises(Conflict, match="another process is migrating"):
        migrate.roll_back(database_url, plan, heartbeat_seconds=FRESH_SECONDS)


def test_a_plan_that_no_longer_fits_is_refused(database_url: str) -> None:
    plan = migrate.plan_down(database_url, steps=1)
    migrate.apply_pending(database_url, bundle=later_build(compatible()))
    with pytest.raises(Conflict, match="the schema has changed since"):
        migrate.roll_back(database_url, plan, heartbeat_seconds=FRESH_SECONDS)
    assert applied(database_url)[-1] == FURTHER


def test_a_rollback_that_the_database_refuses_leaves_that_migration_whole(database_url: str) -> None:
    bad = further(down="DROP TABLE notes;\nDROP TABLE nothing_like_that;")
    last = further("0901_last", up="CREATE TABLE last (id int);", down="DROP TABLE last;", depends=FURTHER)
    migrate.apply_pending(database_url, bundle=later_build(bad, last))
    with pytest.raises(migrate.MigrationFailed, match=f'rolling back {FURTHER} failed: .*"nothing_like_that"'):
        down(database_url, to=NEWEST)
    assert applied(database_url)[-1] == FURTHER
    assert "CREATE TABLE public.notes" in dump(database_url)


@pytest.mark.parametrize(
    ("state", "age", "newest", "needs"),
    [
        ("working", 0, FURTHER, True),
        ("starting", 0, FURTHER, True),
        ("draining", 0, "0999_later_still", True),
        ("working", 0, NEWEST, False),
        ("working", FRESH_SECONDS + 1, FURTHER, False),
        ("stopped", 0, FURTHER, False),
    ],
)
def test_live_workers_keep_the_schema_they_need(
    database: str, state: WorkerState, age: int, newest: str, needs: bool
) -> None:
    migrate.apply_pending(database, bundle=later_build(compatible()))
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4, newest_migration=newest), Beat(state, 0))
    with transaction():
        execute("UPDATE worker_heartbeats SET last_tick_at = now() - %(age)s * interval '1 s'", age=age)
    if needs:
        with pytest.raises(Conflict, match=f"1 live .* need {FURTHER}: .*--force"):
            down(database, to=NEWEST)
        assert applied(database)[-1] == FURTHER
    assert down(database, to=NEWEST, force=needs) == [FURTHER]


@pytest.mark.parametrize(
    ("state", "age", "oldest_build", "hinders"),
    [
        ("working", 0, FURTHER, True),
        ("draining", 0, FURTHER, True),
        ("working", 0, NEWEST, False),
        ("starting", 0, FURTHER, False),
        ("stopped", 0, FURTHER, False),
        ("working", FRESH_SECONDS + 1, FURTHER, False),
    ],
)
def test_live_workers_keep_out_what_they_cannot_run_on(
    database: str, state: WorkerState, age: int, oldest_build: str, hinders: bool
) -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Beat(state, 0))
    with transaction():
        execute("UPDATE worker_heartbeats SET last_tick_at = now() - %(age)s * interval '1 s'", age=age)
    later = later_build(further(FURTHER, f"oldest build: {oldest_build}"))
    if hinders:
        with pytest.raises(Conflict, match=f"1 live .* cannot run on {FURTHER}: .*--force"):
            migrate.apply_pending(database, bundle=later, heartbeat_seconds=FRESH_SECONDS)
        assert applied(database)[-1] == NEWEST
    asked = None if hinders else FRESH_SECONDS
    assert migrate.apply_pending(database, bundle=later, heartbeat_seconds=asked) == (FURTHER,)


def test_a_migration_that_its_build_can_do_without_goes_under_live_workers(database: str) -> None:
    migrate.apply_pending(database, bundle=later_build(further(FURTHER, "deferrable: only an index")))
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4, newest_migration=FURTHER), Beat("working", 0))
    assert down(database, to=NEWEST) == [FURTHER]


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


def test_a_worker_of_an_installation_without_migrations_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "own_bundle", lambda: Bundle([]))
    with pytest.raises(ConfigurationError, match="this installation has no migrations"):
        WorkerIdentity(uuid4(), "kimi", 4)
