"""The database's disk is full: readiness, the doctor, the problem of a POST and the worker's log say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from tests.chaos.harness import Api, Fleet, own_postgres
from tests.ops.doctor_checks import checks
from tests.ops.readiness import Clock, checker, reason
from tests.support.actors import OPERATOR
from tests.support.disks import SmallDisk, small_disk
from tests.support.fleet import beat, change
from tests.support.runs import create, read, wait_until_still
from tests.support.waiting import eventually
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.errors import DatabaseDiskFull
from vm_webapp.local.postgres import DATABASE
from vm_webapp.ops import queue_control
from vm_webapp.ops.disk_probe import find_full_disk

SAID = "the database's disk is full: free space on it or take a larger one; work then goes on by itself"
BRIEF = {"workflow": "smoke", "request": "x" * 3000}


@contextmanager
def on_a_small_disk() -> Iterator[tuple[str, SmallDisk]]:
    """Yield the URL of a database whose tables are on a disk of their own, and that disk."""
    with small_disk(64) as disk, own_postgres() as server:
        close_pool()
        with closing(psycopg2.connect(server.url.replace(f"/{DATABASE}?", "/postgres?"))) as session:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute("CREATE TABLESPACE small LOCATION %s", (str(disk.folder),))
                cursor.execute(f"ALTER DATABASE {DATABASE} SET TABLESPACE small")
        open_pool(server.url, max_connections=8, application_name="tests")
        yield server.url, disk


def post_until_refused(api: Api) -> dict[str, object]:
    """Create runs until one needs a page that the disk does not have; return the problem."""
    for _ in range(500):
        response = api.client.post("/runs", json=BRIEF)
        if response.status_code != 201:
            problem: dict[str, object] = response.json()
            return problem
    raise AssertionError("every run found space")


@pytest.mark.timeout(120)
def test_a_full_disk_is_named_everywhere_and_work_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with on_a_small_disk() as (url, disk), Fleet(tmp_path, url, None, None) as fleet:
        (worker,) = fleet.start_and_wait(1, threads=2, poll_ms=100)
        api = fleet.start_api()
        eventually(lambda: api.readiness()["status"] == "ready", "ready", seconds=40)
        queue_control.pause_queue(reason=None, actor=Actor("tests"))
        runs = [create("smoke").run.id for _ in range(200)]  # more than the free pages of the tables can take
        with disk.full():
            queue_control.resume_queue(actor=OPERATOR)
            problem = post_until_refused(api)
            assert (problem["type"], problem["status"]) == ("/problems/database_disk_full", 503)
            assert "the database's disk is full" in str(problem["detail"])
            eventually(lambda: api.readiness().get("reasons") == [SAID], "readiness names the disk")
            assert api.readiness()["dependencies"]["database"]["status"] == "full"
            check = checks()["database"]
            assert (check.verdict, "No space left on device" in check.detail) == ("fail", True), check
            worker.says("free space on it or take a larger one", seconds=30)
            assert api.readiness()["reasons"] == [SAID]
        eventually(lambda: api.readiness()["status"] == "ready", "ready again", seconds=30)
        assert checks()["database"].verdict == "ok"
        for run_id in runs:
            assert wait_until_still(run_id, seconds=60).status == "completed"
        assert wait_until_still(api.post_run(workflow="smoke").run_id, seconds=60).status == "completed"
        assert fleet.pids() == [worker.pid]


@pytest.mark.usefixtures("database")
def test_heartbeats_that_find_no_space_are_not_told_as_workers_that_are_gone() -> None:
    """By its SQLSTATE, as a quota of a hosted database reports itself."""
    beat()
    own = checker(Clock())
    assert own.check().ready
    change("UPDATE worker_heartbeats SET last_tick_at = last_tick_at - interval '1 min'")
    assert reason(own.check()).startswith("no worker has sent a heartbeat")
    with refused_space():
        assert reason(own.check()) == SAID
        assert checks()["workers"].next == "free space on it or take a larger one; work then goes on by itself"
    assert reason(own.check()).startswith("no worker has sent a heartbeat")


@pytest.mark.usefixtures("database")
def test_a_full_disk_that_a_request_has_met_is_reported_although_workers_are_well() -> None:
    beat()
    own = checker(Clock())
    with refused_space():
        with pytest.raises(DatabaseDiskFull, match="project size limit"):
            create()
        assert reason(own.check()) == SAID
    assert own.check().ready


@pytest.mark.usefixtures("database")
def test_the_check_of_the_disk_leaves_nothing_behind() -> None:
    assert find_full_disk() is None
    assert read("SELECT relname FROM pg_class WHERE relname = 'vm_disk_probe'") == []


@contextmanager
def refused_space() -> Iterator[None]:
    """Every new run and every new table is refused with the SQLSTATE of a full disk during the block."""
    change(
        """
        CREATE FUNCTION refuse_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'could not extend file because project size limit (512 MB) has been exceeded'
                USING ERRCODE = 'disk_full';
        END $$;
        CREATE FUNCTION refuse_table() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'could not extend file because project size limit (512 MB) has been exceeded'
                USING ERRCODE = 'disk_full';
        END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON runs FOR EACH ROW EXECUTE FUNCTION refuse_space();
        CREATE EVENT TRIGGER full_disk ON ddl_command_start WHEN TAG IN ('CREATE TABLE AS')
            EXECUTE FUNCTION refuse_table();
        """
    )
    try:
        yield
    finally:
        change(
            "DROP EVENT TRIGGER full_disk; DROP TRIGGER full_disk ON runs;"
            " DROP FUNCTION refuse_space(); DROP FUNCTION refuse_table()"
        )
