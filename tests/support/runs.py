"""Creating runs and looking at them, as a client of the core would."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actors import execute_stage
from tests.support.waiting import eventually
from vm_webapp.db.pool import rows, transaction
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import CreatedRun, NewRun
from vm_webapp.runs.records import RunRecord
from vm_webapp.workflows.loader import load_catalog

CATALOG = load_catalog()
STILL = ("completed", "failed", "canceled", "waiting_approval")


def create(workflow: str = "content_calendar", request: str = "a request", **options: Any) -> CreatedRun:
    """Create a run and tell nobody."""
    return lifecycle.create_run(NewRun(CATALOG.get(workflow), request, **options), actor="tests")


def create_and_ring(workflow: str = "content_calendar", request: str = "a request", **options: Any) -> UUID:
    """Create a run and send the hint, as the API does."""
    created = create(workflow, request, **options)
    for stage_id in created.due_stage_ids:
        execute_stage.send(str(stage_id))
    return created.run.id


def wait_until_still(run_id: UUID, *, seconds: float = 15.0) -> RunRecord:
    """Return the run once nothing moves it any more but a person."""

    def look() -> RunRecord | None:
        run = queries.get_run(run_id)
        return run if run.status in STILL else None

    return eventually(look, f"run {run_id} comes to rest", seconds=seconds)


def types(run_id: UUID) -> list[str]:
    """Return the types of the run's events, oldest first."""
    return [event.type for event in queries.list_events(run_id, after=0, limit=200)]


def read(sql: str, **params: Any) -> list[dict[str, Any]]:
    """Return the rows of a query."""
    with transaction():
        return rows(sql, **params)
