"""``migrate`` as an operator uses it: exit codes, one clear line, and builds of other ages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pexpect
import psycopg2
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
    write_folder,
)
from tests.support.forms import only_in_full
from tests.support.processes import ROOT, UNSET
from vm_webapp.cli import main
from vm_webapp.db import migrate
from vm_webapp.db.bundle import Bundle, MigrationFiles, own_bundle
from vm_webapp.db.migrate.locks import advisory_lock
from vm_webapp.db.sessions import name_session
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat

FIRST, NEWEST = own_bundle().ids[0], own_bundle().ids[-1]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(url: str) -> dict[str, str]:
    """Return the environment of a command on this database."""
    clean = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**clean, "VM_DB_URL": url, "COLUMNS": "200"}


@pytest.fixture
def cli(database_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs ``migrate`` without a terminal: in this process, or in one of another build's folder."""

    def run(*arguments: str, build: Path = ROOT) -> subprocess.CompletedProcess[str]:
        if build != ROOT:
            return in_process_of_its_own(database_url, *arguments, build=build)
        capfd.readouterr()
        with monkeypatch.context() as patch, Path(os.devnull).open() as nothing:
            for name in UNSET:
                patch.delenv(name, raising=False)
            patch.setenv("VM_DB_URL", database_url)
            patch.setattr(sys, "stdin", nothing)
            try:
                code = main(["migrate", *arguments])
            except SystemExit as usage:
                code = int(str(usage.code))
        said, errors = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, said, errors)

    return run


def in_process_of_its_own(url: str, *arguments: str, build: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``migrate`` as an operator does, in this checkout or in another build's folder."""
    return subprocess.run(
        [sys.executable, "-m", "vm_webapp", "migrate", *arguments],
        cwd=build,
        env=environment(url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def another_build(folder: Path, migrations: Bundle) -> Path:
    """Create a build with other migrations: the same code beside another folder of migrations."""
    for package in ("vm_webapp", "api", "actors"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    write_folder(folder / "migrations", migrations)
    return folder


def test_an_older_build_rolls_back_what_a_newer_one_applied(cli: Cli, database_url: str, tmp_path: Path) -> None:
    older = another_build(tmp_path / "older", build_up_to(FIRST))
    newer = another_build(tmp_path / "newer", later_build(compatible()))
    assert cli("up", build=newer).stdout == f"applied {FURTHER}\n"

    status = cli("status", build=older)
    assert f"newer    {FURTHER}" in status.stdout
    assert cli("up").stdout == "nothing to apply\n"
    done = cli("down", "--to", FIRST, "--yes", build=older)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"rolled back {own_bundle().ids[1]}"
    assert "(1 row)" not in done.stdout, "yoyo prints the rows of a SELECT"
    assert applied(database_url) == [FIRST]
    assert cli("up", build=newer).returncode == 0
    assert applied(database_url) == [*own_bundle().ids, FURTHER]


def test_up_names_what_it_postpones_while_a_worker_cannot_run_on_it(
    cli: Cli, database: str, database_url: str, tmp_path: Path
) -> None:
    newer = another_build(tmp_path / "newer", later_build(further(FURTHER, "deferrable: the last step")))
    worker = WorkerIdentity(uuid4(), "kimi", 4)
    write_heartbeat(worker, Heartbeat("working", 0))
    done = cli("up", build=newer)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"postponed {FURTHER}: 1 live worker(s) are of a build that cannot run on it;"
        " run migrate up again when they have stopped\n"
    )
    write_heartbeat(worker, Heartbeat("stopped", 0))
    assert cli("up", build=newer).stdout == f"applied {FURTHER}\n"


def test_up_says_when_the_schema_is_too_new(cli: Cli, database_url: str) -> None:
    migrate.apply_pending(database_url, bundle=later_build(further()))
    before = dump(database_url)
    done = cli("up")
    assert (done.returncode, done.stdout) == (1, "nothing to apply\n")
    assert done.stderr.startswith(f"vm_webapp: the database has {FURTHER}, too new for this build")
    assert dump(database_url) == before


def test_without_an_action_it_applies(database_url: str) -> None:
    empty(database_url)
    done = in_process_of_its_own(database_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"applied {id}" for id in own_bundle().ids]


def test_a_dry_run_prints_the_sql_and_changes_nothing(cli: Cli, database_url: str) -> None:
    before = dump(database_url)
    down = cli("down", "--steps", "1", "--dry-run")
    assert (down.returncode, down.stderr) == (0, "")
    assert own_bundle().migrations[NEWEST].down.strip() in down.stdout
    assert dump(database_url) == before
    assert cli("up", "--dry-run").stdout == "nothing to apply\n"

    empty(database_url)
    up = cli("up", "--dry-run")
    assert up.returncode == 0
    assert all(files.up.strip() in up.stdout for files in own_bundle().migrations.values())
    assert "CREATE TABLE" not in dump(database_url)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("down",), 2, "one of the arguments --to --steps is required"),
        (("down", "--steps", "0"), 2, "must be a whole number from 1 to"),
        (("down", "--to", FIRST, "--steps", "1"), 2, "not allowed with argument"),
        (("export", ""), 2, "export needs the name of a new folder"),
        (("export",), 2, "the following arguments are required: DIR"),
        (("down", "--steps", "1"), 2, "there is no terminal to ask on: say --yes"),
        (("down", "--to", "0000_nowhere", "--yes"), 1, "0000_nowhere is not among the applied migrations"),
        (("down", "--steps", "99", "--yes"), 2, "there are only"),
        (("export", "migrations"), 2, "migrations is not empty: name a new folder"),
    ],
)
def test_an_impossible_command_is_one_clear_line(
    cli: Cli, database_url: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    before = dump(database_url)
    done = cli(*arguments)
    assert done.returncode == code
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert dump(database_url) == before


@pytest.mark.parametrize("arguments", [("up",), ("down", "--steps", "1", "--yes"), ("unlock",)])
def test_only_one_migrate_runs(
    cli: Cli, database_url: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vm_webapp.cli.migrate.WAIT_SECONDS", 0.0)
    cli("down", "--steps", "1", "--yes")
    with advisory_lock(database_url) as session:
        pid = session.info.backend_pid
        done = cli(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "vm_webapp: another process is migrating this database; try again when it is done"
        f" (pid {pid} of user postgres application vm-webapp migrate"
    )
    assert done.stderr.endswith(f"; SELECT pg_terminate_backend({pid}) ends it)\n")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "action", [("up",), ("export", "out"), only_in_full(("status",)), only_in_full(("down", "--steps", "1", "--yes"))]
)
def test_an_installation_without_migrations_says_so(cli: Cli, tmp_path: Path, action: tuple[str, ...]) -> None:
    damaged = another_build(tmp_path / "damaged", Bundle([]))
    done = cli(*action, build=damaged)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("vm_webapp: this installation has no migrations")
    assert len(done.stderr.splitlines()) == 1


def test_a_leftover_lock_is_reported_and_removed(cli: Cli, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vm_webapp.db.migrate.locks.QUIET_SECONDS", 0.3)
    row = "INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 12345)"
    removed = "removed the lock that process 12345 left behind: it has no session any more\n"
    run_sql(database_url, row)
    assert "held by process 12345" in cli("status").stderr
    assert cli("unlock").stdout == "removed a leftover lock\n"
    assert cli("unlock").stdout == "there was no lock\n"
    for arguments in (("down", "--steps", "1", "--yes"), ("up",)):
        run_sql(database_url, row)
        done = cli(*arguments)
        assert (done.returncode, done.stderr) == (0, removed)
    assert applied(database_url)[-1] == NEWEST


def test_an_edited_migration_is_reported(cli: Cli, database_url: str) -> None:
    run_sql(database_url, f"UPDATE _migration_archive SET sha256 = 'other' WHERE migration_id = '{NEWEST}'")
    for action in ("status", "up"):
        done = cli(action)
        assert done.returncode == 0
        assert done.stderr == f"{NEWEST} has been edited since it was applied; the database has it as it was\n"


def test_export_writes_what_plain_yoyo_needs(cli: Cli, tmp_path: Path) -> None:
    done = cli("export", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert f"yoyo rollback --revision {NEWEST} {tmp_path / 'out'}" in done.stdout
    ups = [path.stem for path in (tmp_path / "out").glob("*.sql") if ".rollback" not in path.name]
    assert sorted(ups) == list(own_bundle().ids)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (further(FURTHER, "irreversible: the old names are gone"), "the old names are gone"),
        (further(down=""), "it has no rollback file, or one that is empty"),
    ],
    ids=["irreversible", "no rollback"],
)
def test_export_warns_about_migrations_that_plain_yoyo_would_only_unmark(
    cli: Cli, database_url: str, tmp_path: Path, files: MigrationFiles, why: str
) -> None:
    migrate.apply_pending(database_url, bundle=later_build(files))
    done = cli("export", str(tmp_path / "out"))
    assert done.stdout == f"wrote {len(own_bundle().ids) + 1} migrations to {tmp_path / 'out'}\n"
    assert done.stderr == f"{FURTHER} cannot be rolled back: {why}; plain yoyo would only unmark it\n"


def test_each_step_is_reported_when_it_is_done(cli: Cli, database_url: str) -> None:
    run_sql(empty(database_url), "CREATE TABLE api_keys ()")
    done = cli("up")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["applied 0001_runs_and_stages", "applied 0002_idempotency_keys"]
    assert done.stderr.startswith('vm_webapp: 0003_api_keys failed: relation "api_keys" already exists')

    run_sql(database_url, "DROP TABLE api_keys")
    bad = further(down="DROP TABLE nothing_like_that;")
    last = further("0901_last", up="SELECT 1;", down="SELECT 1;", depends=FURTHER)
    migrate.apply_pending(database_url, bundle=later_build(bad, last))
    done = cli("down", "--steps", "2", "--yes")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "rolled back 0901_last"
    assert done.stderr.startswith(f"vm_webapp: rolling back {FURTHER} failed")


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_up_names_the_connected_apis_of_other_builds(cli: Cli, database_url: str, dry_run: tuple[str, ...]) -> None:
    cli("down", "--to", FIRST, "--yes")
    run_sql(database_url, "UPDATE _migration_archive SET oldest_build = '0000_older'")
    with closing(psycopg2.connect(database_url, application_name=name_session("api", "0.0.1+old"))):
        done = cli("up", *dry_run)
    assert done.returncode == 0
    needed = max(files.oldest_build for files in own_bundle().migrations.values())
    assert done.stderr == f"APIs of 0.0.1+old are connected: they work on only if they know {needed}\n"


@pytest.mark.parametrize(("answer", "code"), [("\n", 1), ("y\n", 0), only_in_full("n\n", 1), only_in_full("\x04", 1)])
def test_on_a_terminal_down_asks(database_url: str, answer: str, code: int) -> None:
    command = ["-m", "vm_webapp", "migrate", "down", "--steps", "1"]
    terminal = pexpect.spawn(
        sys.executable, command, cwd=str(ROOT), env=environment(database_url), encoding="utf-8", timeout=20
    )
    terminal.expect_exact(own_bundle().migrations[NEWEST].down.splitlines()[0])
    terminal.expect(r"Roll back 1 migration\? \[y/N\]")
    terminal.send(answer)
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == code
    assert (applied(database_url)[-1] == NEWEST) is (code == 1)
