"""A new run that takes over what another one has finished, and goes on from there."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7

from vm_webapp.db.pool import Row, execute, row, rows, transaction
from vm_webapp.errors import Conflict, InvalidInput, NotFound
from vm_webapp.runs import queries
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.records import RunRecord
from vm_webapp.runs.signals import stage_due


def fork_run(parent_id: UUID, *, from_stage: str, request: str | None, actor: str) -> RunRecord:
    """Create a run with the parent's workflow, brand and project as they were, beginning at one of its stages.

    1. Copy the run: same snapshot, its own request where one is given.
    2. Copy the stages: those before ``from_stage`` are completed, with the newest version of their document.
    3. Queue ``from_stage``.

    Args:
        parent_id: the run to begin from, whatever its status.
        from_stage: key of the first stage that is written anew.
        request: what is wanted instead, None for what the parent was asked.
        actor: who asks.

    Raises:
        NotFound: there is no such run.
        InvalidInput: the run has no such stage.
        Conflict: a stage before it has no finished document to take over.
    """
    with transaction():
        parent = _read_parent(parent_id)
        stages = rows("SELECT * FROM stages WHERE run_id = %(id)s ORDER BY position", id=parent_id)
        first = next((stage for stage in stages if stage["key"] == from_stage), None)
        if first is None:
            known = ", ".join(stage["key"] for stage in stages)
            raise InvalidInput(f"the run has no stage {from_stage!r}; it has {known}", pointer="/from_stage")
        run_id = uuid7()
        _copy_run(run_id, parent_id, request)
        events = [NewEvent("run.created", data={"workflow": parent["workflow"], "forked_from": str(parent_id)})]
        for stage in stages:
            stage_id = uuid7()
            if stage["position"] < first["position"]:
                events.append(_take_over(run_id, stage_id, stage))
            else:
                _begin(run_id, stage_id, stage, queued=stage is first)
                if stage is first:
                    stage_due.raise_after_commit(stage_id)
        append_events(run_id, actor, *events, NewEvent("stage.queued", from_stage))
        return queries.read_run(run_id)


def _read_parent(id: UUID) -> Row:
    # Held until the commit, so that no retry rewrites the stages between reading and copying them.
    parent = row("SELECT workflow FROM runs WHERE id = %(id)s FOR NO KEY UPDATE", id=id)
    if parent is None:
        raise NotFound(f"there is no run {id}")
    return parent


def _copy_run(id: UUID, parent_id: UUID, request: str | None) -> None:
    execute(
        """
        INSERT INTO runs (id, workflow, status, priority, request, auto_approve, brand_id, project_id, parent_run_id,
                          snapshot)
        SELECT %(id)s, workflow, 'queued', priority, coalesce(%(request)s, request), auto_approve, brand_id,
               project_id, id, snapshot
          FROM runs WHERE id = %(parent)s
        """,
        id=id,
        parent=parent_id,
        request=request,
    )


def _take_over(run_id: UUID, stage_id: UUID, source: Row) -> NewEvent:
    if source["status"] != "completed":
        raise Conflict(f"the stage {source['key']} is {source['status']}; only finished documents can be taken over")
    execute(
        """
        INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                            queued_at, available_at, started_at, finished_at, provider)
        SELECT %(id)s, %(run_id)s, position, key, title, 'completed', priority, requires_approval, needs_model,
               now(), now(), now(), now(), provider
          FROM stages WHERE id = %(source)s
        """,
        id=stage_id,
        run_id=run_id,
        source=source["id"],
    )
    # Without token counts: what the parent paid for is not paid for twice.
    copied = row(
        """
        INSERT INTO artifacts (id, run_id, stage_id, version, name, media_type, sha256, size, content, provider, model,
                               truncated, author)
        SELECT %(id)s, %(run_id)s, %(stage_id)s, 1, name, media_type, sha256, size, content, provider, model,
               truncated, author
          FROM artifacts WHERE stage_id = %(source)s ORDER BY version DESC LIMIT 1
        RETURNING version, sha256
        """,
        id=uuid7(),
        run_id=run_id,
        stage_id=stage_id,
        source=source["id"],
    )
    assert copied is not None, "a completed stage has a document"
    return NewEvent("stage.completed", source["key"], {**copied, "taken_over": True})


def _begin(run_id: UUID, stage_id: UUID, source: Row, *, queued: bool) -> None:
    execute(
        """
        INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                            queued_at, available_at)
        SELECT %(id)s, %(run_id)s, position, key, title, %(status)s, priority, requires_approval, needs_model,
               CASE WHEN %(status)s = 'queued' THEN clock_timestamp() END,
               CASE WHEN %(status)s = 'queued' THEN clock_timestamp() END
          FROM stages WHERE id = %(source)s
        """,
        id=stage_id,
        run_id=run_id,
        status="queued" if queued else "pending",
        source=source["id"],
    )
