"""Creating a run: its row, its stages and its first events, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from vm_webapp.db.compiled import STATEMENT_TIME, Compiled, compiled, param
from vm_webapp.db.models import Run, Stage
from vm_webapp.db.pool import execute, jsonb, transaction
from vm_webapp.runs import queries
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.run_context import lock_context
from vm_webapp.runs.records import Priority, RunRecord
from vm_webapp.runs.signals import stage_due
from vm_webapp.workflows.model import Workflow

PRIORITIES: dict[Priority, int] = {"normal": 0, "low": 1}

# ``returning()`` without arguments: for PostgreSQL, Peewee would add RETURNING with the primary key, which is not
# needed.
_INSERT_RUN = compiled(
    Run.insert(
        {
            Run.id: param("id"),
            Run.workflow: param("workflow"),
            Run.status: "queued",
            Run.priority: param("priority"),
            Run.request: param("request"),
            Run.auto_approve: param("auto_approve"),
            Run.brand: param("brand_id"),
            Run.project: param("project_id"),
            Run.snapshot: param("snapshot"),
        }
    ).returning()
)


@dataclass(frozen=True, slots=True)
class NewRun:
    """The run to be created."""

    workflow: Workflow
    request: str
    brand_id: UUID | None = None
    project_id: UUID | None = None
    auto_approve: bool = False
    priority: Priority = "normal"


def create_run(new: NewRun, *, actor: str) -> RunRecord:
    """Persist a run whose first stage is due.

    Args:
        new: the run to be created.
        actor: who creates it.

    Raises:
        InvalidInput: the brand or the project does not exist or is archived, or the project is of another brand.
        DatabaseUnavailable: nothing was written.
    """
    # UUIDv7 keys sort by age: the queue takes the oldest run first by ordering by ``run_id`` alone.
    run_id = uuid7()
    with transaction():
        context = lock_context(new.brand_id, new.project_id)
        execute(
            _INSERT_RUN,
            id=run_id,
            workflow=new.workflow.name,
            priority=PRIORITIES[new.priority],
            request=new.request,
            auto_approve=new.auto_approve,
            brand_id=context.brand_id,
            project_id=new.project_id,
            snapshot=jsonb({"workflow": new.workflow.snapshot(), **context.snapshot}),
        )
        stage_due.raise_after_commit(_insert_stages(run_id, new))
        append_events(
            run_id,
            actor,
            NewEvent("run.created", data={"workflow": new.workflow.name}),
            NewEvent("stage.queued", new.workflow.stages[0].key),
        )
        return queries.read_run(run_id)


def _insert_stages(run_id: UUID, new: NewRun) -> UUID:
    """Insert every stage, the first of them queued; return the first one's id."""
    ids = [uuid7() for _ in new.workflow.stages]
    values: dict[str, Any] = {"run_id": run_id, "priority": PRIORITIES[new.priority]}
    for position, (id, stage) in enumerate(zip(ids, new.workflow.stages, strict=True), start=1):
        values |= {
            f"id{position}": id,
            f"key{position}": stage.key,
            f"title{position}": stage.title,
            f"requires_approval{position}": stage.requires_approval,
            f"needs_model{position}": stage.needs_model,
        }
    execute(_insert_statement(len(ids)), **values)
    return ids[0]


@lru_cache(maxsize=32)
def _insert_statement(count: int) -> Compiled:
    """Return the statement that inserts this many stages of one run."""
    # One text for each number of stages: all rows go in one statement, and workflows have few different lengths.
    return compiled(
        Stage.insert_many(
            [
                {
                    Stage.id: param(f"id{position}"),
                    Stage.run: param("run_id"),
                    Stage.position: position,
                    Stage.key: param(f"key{position}"),
                    Stage.title: param(f"title{position}"),
                    Stage.status: "queued" if position == 1 else "pending",
                    Stage.priority: param("priority"),
                    Stage.requires_approval: param(f"requires_approval{position}"),
                    Stage.needs_model: param(f"needs_model{position}"),
                    Stage.queued_at: STATEMENT_TIME if position == 1 else None,
                    Stage.available_at: STATEMENT_TIME if position == 1 else None,
                }
                for position in range(1, count + 1)
            ]
        ).returning()
    )
