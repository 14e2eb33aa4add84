"""Worker heartbeats without a worker, and direct changes of the database."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from vm_webapp import __version__
from vm_webapp.db.pool import execute, transaction
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, WorkerState, write_heartbeat

SLOTS = 4


def beat(
    state: WorkerState = "working",
    *,
    in_flight: int = 0,
    cap: int | None = None,
    build: str = __version__,
    host: str = "a-host",
    **facts: Any,
) -> WorkerIdentity:
    """Write the heartbeat of a new worker, which does not exist; return its identity."""
    worker = WorkerIdentity(uuid4(), "kimi", SLOTS, cap, build=build, host=host)
    write_heartbeat(worker, Heartbeat(state, in_flight, **facts))
    return worker


def change(sql: str, **params: Any) -> None:
    """Run a statement."""
    with transaction():
        execute(sql, **params)
