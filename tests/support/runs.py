"""Creates and reads runs through the core, without the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from actors import broker
from tests.support.waiting import eventually
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import rows, transaction
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import NewRun
from vm_webapp.runs.records import RunRecord
from vm_webapp.workflows.loader import load_catalog

TESTER = Actor("tests")
CATALOG = load_catalog()
STILL = ("completed", "failed", "canceled", "waiting_approval")


@dataclass(frozen=True)
class CreatedRun:
    """A run as created, and its first stage, which is due."""

    run: RunRecord
    stage_id: UUID


def create(
    workflow: str = "content_calendar", request: str = "a request", *, actor: Actor = TESTER, **options: Any
) -> CreatedRun:
    """Create a run. Workers get a hint if this process is connected to their Redis."""
    run = lifecycle.create_run(NewRun(CATALOG.get(workflow), request, **options), actor=actor)
    (first,) = read("SELECT id FROM stages WHERE run_id = %(id)s AND position = 1", id=run.id)
    return CreatedRun(run, first["id"])


@contextmanager
def lost_hints() -> Iterator[None]:
    """Drop every hint that this process sends during the block."""
    before = broker.url
    broker.bind(None)
    yield
    broker.bind(before)


def wait_until_still(run_id: UUID, *, seconds: float = 15.0) -> RunRecord:
    """Wait until the run is final or waits for a person; return it."""

    def read_if_still() -> RunRecord | None:
        run = queries.get_run(run_id)
        return run if run.status in STILL else None

    return eventually(read_if_still, f"run {run_id} comes to rest", seconds=seconds)


def types(run_id: UUID) -> list[str]:
    """Return the types of the run's events, oldest first."""
    return [event.type for event in queries.list_events(run_id, after=0, limit=200)]


def read(sql: str, **params: Any) -> list[dict[str, Any]]:
    """Return the rows of a query."""
    with transaction():
        return rows(sql, **params)
