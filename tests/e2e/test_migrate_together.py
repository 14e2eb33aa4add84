"""Several that migrate one database at once: one does it, the others wait, say that it is done, and exit 0."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.db.schemas import FURTHER, applied, empty, further, later_build, run_sql
from tests.e2e.test_migrate import another_build, environment
from tests.support.forms import only_in_full
from tests.support.processes import ROOT
from tests.support.waiting import eventually
from vm_webapp.db import migrate
from vm_webapp.db.bundle import own_bundle
from vm_webapp.db.migrate.locks import advisory_lock
from vm_webapp.errors import Conflict

# A migration that works until somebody writes into the table ``go``.
WAIT = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.05); END LOOP; END $$;"
SLOW = further(up=f"{WAIT}\nCREATE TABLE notes ();", down="DROP TABLE notes;")
AT_WORK = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query ~ '^DO .*pg_sleep'"


def start_up(url: str, build: Path = ROOT) -> subprocess.Popen[str]:
    """Start ``migrate up``."""
    command = [sys.executable, "-m", "vm_webapp", "migrate", "up"]
    return subprocess.Popen(
        command, cwd=build, env=environment(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def start_yoyo(url: str, build: Path = ROOT) -> subprocess.Popen[str]:
    """Start plain ``yoyo apply``."""
    command = [
        sys.executable,
        "-m",
        "yoyo",
        "apply",
        "--batch",
        "--config",
        str(ROOT / "yoyo.ini"),
        str(build / "migrations"),
    ]
    env = {**os.environ, "VM_DB_URL": url, "LOGNAME": "tests"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """Wait for a process; return its exit code, its lines and its errors."""
    out, errors = process.communicate(timeout=90)
    return process.returncode, out.splitlines(), errors


@pytest.mark.parametrize(
    "new", [pytest.param(True, id="an empty database"), only_in_full(False, id="one without an archive")]
)
def test_four_at_once(database_url: str, new: bool) -> None:
    if new:
        empty(database_url)
    else:
        run_sql(database_url, "DROP TABLE _migration_archive")
    results = [ended(process) for process in [start_up(database_url) for _ in range(4)]]
    assert [code for code, _, _ in results] == [0, 0, 0, 0], results
    by_one = [f"applied {id}" for id in own_bundle().ids]
    others = [lines for _, lines, _ in results if lines != by_one]
    # One that starts late finds some of them applied already.
    rests = [own_bundle().ids[first:] for first in range(len(own_bundle().ids))]
    allowed = [["nothing to apply"], *([f"another process has applied {', '.join(rest)}"] for rest in rests)]
    assert all(lines in allowed for lines in others), others
    assert len(others) == (3 if new else 4)
    assert migrate.read_status(database_url) == migrate.SchemaStatus(own_bundle().ids, (), ())


@pytest.mark.parametrize(
    ("start_first", "says"),
    [
        (start_up, "another process is migrating this database: waiting until it is done (pid "),
        (start_yoyo, "which has yoyo's lock: pid "),
    ],
    ids=["another up", "plain yoyo"],
)
def test_up_waits_for_whoever_migrates_and_says_that_it_is_done(
    database_url: str, tmp_path: Path, start_first: Callable[[str, Path], subprocess.Popen[str]], says: str
) -> None:
    run_sql(database_url, "CREATE TABLE go ()")
    build = another_build(tmp_path / "build", later_build(SLOW))
    first = start_first(database_url, build)
    eventually(lambda: run_sql(database_url, AT_WORK), "the first at work", seconds=60)
    second = start_up(database_url, build)
    assert second.stderr is not None
    assert says in second.stderr.readline()
    run_sql(database_url, "INSERT INTO go DEFAULT VALUES")
    assert ended(second) == (0, [f"another process has applied {FURTHER}"], "")
    code, _, errors = ended(first)
    assert code == 0, errors
    assert applied(database_url)[-1] == FURTHER


def test_up_and_plain_yoyo_begin_together_on_an_empty_database(database_url: str) -> None:
    empty(database_url)
    yoyo, up = start_yoyo(database_url), start_up(database_url)
    (yoyo_code, _, yoyo_errors), (code, _, errors) = ended(yoyo), ended(up)
    assert (yoyo_code, code) == (0, 0), yoyo_errors + errors
    assert migrate.read_status(database_url) == migrate.SchemaStatus(own_bundle().ids, (), ())


def test_the_wait_has_an_end_that_names_the_session(database_url: str) -> None:
    empty(database_url)
    with advisory_lock(database_url) as session:
        pid = session.info.backend_pid
        with pytest.raises(Conflict, match=rf"SELECT pg_terminate_backend\({pid}\) ends it"):
            migrate.apply_pending(database_url, patience=migrate.Patience(0.5))
