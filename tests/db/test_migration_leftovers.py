"""What a killed process leaves: its lock row goes only when nobody can be at work for it, and ``up`` goes on alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from tests.db.schemas import FURTHER, empty, further, later_build, run_sql, write_folder
from tests.support.processes import ROOT
from tests.support.waiting import eventually
from vm_webapp.db import migrate
from vm_webapp.db.bundle import Bundle, own_bundle
from vm_webapp.db.migrate import locks
from vm_webapp.errors import Conflict

ROW = "INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 12345)"
AT_WORK = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query ~ 'pg_sleep' AND pid <> pg_backend_pid()"
SLOW = later_build(further(up="CREATE TABLE slow AS SELECT 1 AS one FROM pg_sleep(6);", down="DROP TABLE slow;"))
SOON = later_build(further(up="CREATE TABLE slow AS SELECT 1 AS one;", down="DROP TABLE slow;"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a session that shows nothing of itself count as gone sooner."""
    monkeypatch.setattr(locks, "QUIET_SECONDS", 0.3)


@contextmanager
def plain_yoyo(url: str, folder: Path, build: Bundle) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``yoyo apply`` until it executes a migration that takes seconds."""
    config = ["--batch", "--config", str(ROOT / "yoyo.ini"), str(write_folder(folder, build))]
    environment = {**os.environ, "VM_DB_URL": url, "LOGNAME": "tests"}
    process = subprocess.Popen([sys.executable, "-m", "yoyo", "apply", *config], env=environment, cwd=ROOT)
    try:
        eventually(lambda: run_sql(url, AT_WORK), "a migration that sleeps", seconds=60)
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_next_up_removes_a_row_whose_owner_is_gone_and_says_so(database_url: str) -> None:
    run_sql(database_url, ROW)
    said: list[str] = []
    applied = migrate.apply_pending(
        database_url, bundle=later_build(further()), patience=migrate.Patience(say=said.append)
    )
    assert applied == (FURTHER,)
    assert said == ["removed the lock that process 12345 left behind: it has no session any more"]
    assert run_sql(database_url, "SELECT pid FROM yoyo_lock") == []


def test_a_first_deploy_that_was_killed_needs_no_shell(database_url: str) -> None:
    run_sql(empty(database_url), f"{locks._CREATE_LOCK_TABLE}; {ROW}")
    assert migrate.apply_pending(database_url) == own_bundle().ids


def test_neither_unlock_nor_up_removes_a_row_while_the_killed_clients_session_works(
    database_url: str, tmp_path: Path
) -> None:
    with plain_yoyo(database_url, tmp_path / "slow", SLOW) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        ((pid,),) = run_sql(database_url, AT_WORK)
        for act in (lambda: migrate.unlock(database_url), lambda: migrate.apply_pending(database_url, bundle=SLOW)):
            with pytest.raises(Conflict) as refused:
                act()
            assert f"SELECT pg_terminate_backend({pid})" in str(refused.value)
            assert "CREATE TABLE slow" in str(refused.value)
            assert run_sql(database_url, "SELECT count(*) FROM yoyo_lock") == [(1,)]
        said: list[str] = []
        patience = migrate.Patience(60, said.append)
        assert migrate.apply_pending(database_url, bundle=SOON, patience=patience) == (FURTHER,)
    assert "which has yoyo's lock: pid" in said[0]
    assert "removed the lock that process" in said[1]
    assert run_sql(database_url, "SELECT count(*) FROM slow") == [(1,)]


def test_up_goes_on_when_the_session_that_was_named_is_ended(database_url: str, tmp_path: Path) -> None:
    endless = later_build(further(up="SELECT pg_sleep(600);", down="SELECT 1;"))
    with plain_yoyo(database_url, tmp_path / "endless", endless) as process:
        process.kill()
        process.wait()
        # The same statement with nothing but its text to tell it by: it has changed nothing and has no lock.
        with pytest.raises(Conflict) as refused:
            migrate.apply_pending(database_url, bundle=endless)
        ends_it = str(refused.value).rpartition("; ")[2].removesuffix(" ends it")
        assert run_sql(database_url, ends_it) == [(True,)]
        assert migrate.apply_pending(database_url, bundle=later_build(further())) == (FURTHER,)


@pytest.mark.parametrize(
    ("name", "sql", "stays"),
    [
        ("", "UPDATE queues SET paused_by = paused_by", True),
        ("psql", "LOCK TABLE runs IN SHARE UPDATE EXCLUSIVE MODE", True),
        ("vm-webapp migration", "SELECT 1", True),
        ("pg_dump", "SELECT count(*) FROM runs", False),
        ("vm-webapp api 1.0", "UPDATE queues SET paused_by = paused_by", False),
    ],
)
def test_whoever_may_be_a_migration_keeps_the_row(database_url: str, name: str, sql: str, stays: bool) -> None:
    run_sql(database_url, ROW)
    with closing(psycopg2.connect(database_url, application_name=name)) as session, session.cursor() as cursor:
        cursor.execute(sql)
        if stays:
            with pytest.raises(Conflict, match=rf"pg_terminate_backend\({session.info.backend_pid}\)"):
                migrate.unlock(database_url)
        else:
            assert migrate.unlock(database_url)


def test_what_a_killed_migrate_was_doing_is_ended_by_the_server(database_url: str, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from vm_webapp.db import migrate; from vm_webapp.db.bundle import"
        " read_bundle; migrate.apply_pending(sys.argv[1], bundle=read_bundle(Path(sys.argv[2])))"
    )
    build = later_build(further(up="CREATE TABLE slow ();\nSELECT pg_sleep(600);", down="DROP TABLE slow;"))
    folder = write_folder(tmp_path / "endless", build)
    process = subprocess.Popen([sys.executable, "-c", script, database_url, str(folder)], cwd=ROOT)
    eventually(lambda: run_sql(database_url, AT_WORK), "a migration that sleeps", seconds=60)
    process.kill()
    process.wait()
    done = later_build(further(up="CREATE TABLE slow ();", down="DROP TABLE slow;"))
    patience = migrate.Patience(30)
    assert migrate.apply_pending(database_url, bundle=done, patience=patience) == (FURTHER,)
    assert run_sql(database_url, AT_WORK) == []


def test_an_index_build_that_was_killed_is_begun_again(database_url: str, tmp_path: Path) -> None:
    up = "CREATE INDEX CONCURRENTLY runs_mood ON runs (status);"
    build = later_build(further(FURTHER, "transactional: false", up=up, down="DROP INDEX runs_mood;"))
    script = (
        "import sys; from pathlib import Path; from vm_webapp.db import migrate; from vm_webapp.db.bundle import"
        " read_bundle; migrate.apply_pending(sys.argv[1], bundle=read_bundle(Path(sys.argv[2])))"
    )
    folder = write_folder(tmp_path / "build", build)
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM runs; UPDATE runs SET status = status")
        process = subprocess.Popen([sys.executable, "-c", script, database_url, str(folder)], cwd=ROOT)
        waiting = "SELECT 1 FROM pg_stat_activity WHERE query ~ '^CREATE INDEX' AND wait_event_type = 'Lock'"
        eventually(lambda: run_sql(database_url, waiting), "an index build that waits", seconds=60)
        process.kill()
        process.wait()
        eventually(lambda: not run_sql(database_url, waiting), "its end")
        assert run_sql(database_url, "SELECT to_regclass('runs_mood') IS NOT NULL") == [(True,)]
    assert migrate.apply_pending(database_url, bundle=build, patience=migrate.Patience(30)) == (FURTHER,)
    assert run_sql(database_url, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'runs_mood'::regclass") == [
        (True,)
    ]
