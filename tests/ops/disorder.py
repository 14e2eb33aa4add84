"""What a test puts into the database behind everybody's back: workers, work that waits, and damage."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.support.runs import CreatedRun, create
from vm_webapp import __version__
from vm_webapp.db.pool import close_pool, execute, open_pool, transaction
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, WorkerState, write_heartbeat

SLOTS = 4


def open_anew(url: str) -> None:
    """Point this process at a database, with none of the connections that it has kept."""
    close_pool()
    open_pool(url, max_connections=2, application_name="tests")


def beat(
    state: WorkerState = "working",
    *,
    in_flight: int = 0,
    cap: int | None = None,
    build: str = __version__,
    host: str = "a-host",
    **facts: Any,
) -> WorkerIdentity:
    """Write the heartbeat of a new worker."""
    worker = WorkerIdentity(uuid4(), "kimi", SLOTS, cap, build=build, host=host)
    write_heartbeat(worker, Heartbeat(state, in_flight, **facts))
    return worker


def change(sql: str, **params: Any) -> None:
    """Run a statement."""
    with transaction():
        execute(sql, **params)


def leave_work_waiting(seconds: int = 20) -> CreatedRun:
    """Create a run whose first stage has been due for a while."""
    created = create("content_calendar")
    change("UPDATE stages SET available_at = now() - %(s)s * interval '1 s' WHERE status = 'queued'", s=seconds)
    return created


def migrate_ahead() -> None:
    """Have a newer build migrate, which has not said that this one can work on it."""
    change("INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('f', '9999_from_the_future')")
