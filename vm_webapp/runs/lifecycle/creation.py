"""A run comes into being: its row, its stages and its first events, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from vm_webapp.db.pool import execute, json, row, transaction
from vm_webapp.errors import InvalidInput
from vm_webapp.runs import queries
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.records import Priority, RunRecord
from vm_webapp.runs.signals import stage_due
from vm_webapp.workflows.model import Workflow

PRIORITIES: dict[Priority, int] = {"normal": 0, "low": 1}


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a caller asks for."""

    workflow: Workflow
    request: str
    brand_id: UUID | None = None
    project_id: UUID | None = None
    auto_approve: bool = False
    priority: Priority = "normal"


def create_run(new: NewRun, *, actor: str) -> RunRecord:
    """Persist a run whose first stage is due.

    Args:
        new: what is asked for.
        actor: who asks.

    Raises:
        InvalidInput: the brand or the project does not exist or is archived.
        DatabaseUnavailable: nothing was written.
    """
    run_id = uuid7()
    with transaction():
        brand = _context("brands", new.brand_id, "/brand_id")
        project = _context("projects", new.project_id, "/project_id")
        snapshot = {"workflow": new.workflow.snapshot(), "brand": brand, "project": project}
        execute(
            """
            INSERT INTO runs (id, workflow, status, priority, request, auto_approve, brand_id, project_id, snapshot)
            VALUES (%(id)s, %(workflow)s, 'queued', %(priority)s, %(request)s, %(auto_approve)s, %(brand_id)s,
                    %(project_id)s, %(snapshot)s)
            """,
            id=run_id,
            workflow=new.workflow.name,
            priority=PRIORITIES[new.priority],
            request=new.request,
            auto_approve=new.auto_approve,
            brand_id=new.brand_id,
            project_id=new.project_id,
            snapshot=json(snapshot),
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
    values, parameters = [], dict[str, Any](run_id=run_id, priority=PRIORITIES[new.priority])
    for position, stage in enumerate(new.workflow.stages, start=1):
        status, time = ("'queued'", "clock_timestamp()") if position == 1 else ("'pending'", "NULL")
        values.append(
            f"(%(id{position})s, %(run_id)s, {position}, %(key{position})s, %(title{position})s, {status},"
            f" %(priority)s, {stage.requires_approval}, {stage.needs_model}, {time}, {time})"
        )
        parameters |= {
            f"id{position}": uuid7(),
            f"key{position}": stage.key,
            f"title{position}": stage.title,
        }
    execute(
        "INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,"
        f" queued_at, available_at) VALUES {', '.join(values)}",
        **parameters,
    )
    first: UUID = parameters["id1"]
    return first


_CONTEXT_COLUMNS = {
    "brands": "name, voice, audience, products, facts, forbidden_words",
    "projects": "name, objective, channels, starts_on::text, ends_on::text",
}


def _context(table: str, id: UUID | None, pointer: str) -> dict[str, Any] | None:
    if id is None:
        return None
    columns = _CONTEXT_COLUMNS[table]
    found = row(f"SELECT archived_at, {columns} FROM {table} WHERE id = %(id)s FOR KEY SHARE", id=id)
    noun = table.removesuffix("s")
    if found is None:
        raise InvalidInput(f"there is no {noun} {id}", pointer=pointer)
    if found.pop("archived_at") is not None:
        raise InvalidInput(f"the {noun} {id} is archived and takes no new runs", pointer=pointer)
    return found
