"""Workers on older and newer schemas: they wait, report it, and start when the schema fits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.db.schemas import FURTHER, compatible, further, later_build
from tests.support.processes import Program, program
from tests.support.runs import create, read, wait_until_still
from tests.support.waiting import eventually
from vm_webapp.db import migrate
from vm_webapp.db.bundle import own_bundle
from vm_webapp.ops.health import HealthChecker
from vm_webapp.settings import Settings

NEWEST = own_bundle().ids[-1]
BEFORE, NEEDED = [id for id, files in own_bundle().migrations.items() if not files.deferrable][-2:]


def cli(env: dict[str, str], *arguments: str) -> None:
    """Run ``migrate`` beside the worker."""
    command = [sys.executable, "-m", "vm_webapp", "migrate", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def waits(worker: Program, what: str) -> None:
    """Assert that the worker is alive, waits for this, and reports it in its log and in its heartbeat."""
    worker.says("worker.starting")
    worker.says(what)
    said = eventually(lambda: read("SELECT state, last_error FROM worker_heartbeats"), "a heartbeat row")
    assert [each["state"] for each in said] == ["starting"]
    assert what in said[0]["last_error"]["error"]
    health = HealthChecker(Settings(), None).check()
    assert not health.ready
    assert "worker.loop_error" not in worker.output()


def test_a_worker_waits_on_a_schema_that_is_too_new_until_it_is_rolled_back(
    env: dict[str, str], database: str, tmp_path: Path
) -> None:
    migrate.apply_pending(database, bundle=later_build(further()))
    with program("worker", env=env, folder=tmp_path / "log") as worker:
        waits(worker, f"the database has {FURTHER}, too new for this build")
        cli(env, "down", "--to", NEWEST, "--yes")
        assert wait_until_still(create("smoke").run.id).status == "completed"
        assert worker.stop() == 0


def test_a_worker_waits_on_a_schema_older_than_its_code_until_it_is_migrated(
    env: dict[str, str], tmp_path: Path
) -> None:
    cli(env, "down", "--to", BEFORE, "--yes")
    with program("worker", env=env, folder=tmp_path / "log") as worker:
        waits(worker, f"the database lacks {NEEDED}")
        cli(env, "up")
        assert wait_until_still(create("smoke").run.id).status == "completed"
        assert read("SELECT DISTINCT state FROM worker_heartbeats") == [{"state": "working"}]


def test_a_worker_works_on_a_newer_schema_that_is_compatible(
    env: dict[str, str], database: str, tmp_path: Path
) -> None:
    migrate.apply_pending(database, bundle=later_build(compatible()))
    with program("worker", env=env, folder=tmp_path / "log") as worker:
        assert wait_until_still(create("smoke").run.id).status == "completed"
        assert "worker.starting" not in worker.output()
        cli(env, "up")
