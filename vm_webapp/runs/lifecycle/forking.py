"""Forking: a new run that copies the stages which another run has completed, and continues from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from peewee import Case, Value, fn
from uuid_utils.compat import uuid7

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import record
from vm_webapp.access.run_quota import RunQuota
from vm_webapp.db.compiled import NO_KEY_UPDATE, STATEMENT_TIME, compiled, param
from vm_webapp.db.models import Artifact, Run, Stage
from vm_webapp.db.pool import Row, execute, row, rows, transaction
from vm_webapp.errors import Conflict, InvalidInput, NotFound
from vm_webapp.runs import queries, statements
from vm_webapp.runs.artifacts import newest_of
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.four_eyes import check_creator_is_known
from vm_webapp.runs.lifecycle.run_context import RunContext, lock_present_context
from vm_webapp.runs.records import RunRecord
from vm_webapp.runs.run_spans import begin_run
from vm_webapp.runs.signals import stage_due
from vm_webapp.runs.snapshot_moves import move_snapshot
from vm_webapp.runs.snapshots import store

# Locked until the commit, so that no retry changes the stages between reading and copying them.
_LOCK_PARENT = compiled(
    Run.select(Run.workflow, Run.priority, Run.brand, Run.project, Run.four_eyes)
    .where(Run.id == param("id"))
    .for_update(NO_KEY_UPDATE)
)
_STAGES = compiled(
    Stage.select(Stage.id, Stage.position, Stage.key, Stage.status)
    .where(Stage.run == param("run_id"))
    .order_by(Stage.position)
)
# INSERT … SELECT copies inside PostgreSQL: artifacts of many kilobytes do not pass through this process.
# ``insert_from`` pairs columns by position, so each list of fields below has the order of its SELECT.
_SAME_RUN = (
    *(Run.workflow, Run.priority, Run.auto_approve, Run.four_eyes, Run.brand, Run.project),
    *(Run.workflow_digest, Run.brand_digest, Run.project_digest),
    *(Run.budget_tokens, Run.budget_money),
)
_COPY_RUN = compiled(
    Run.insert_from(
        Run.select(
            *(param("id"), Value("queued"), fn.coalesce(param("request"), Run.request), Run.id, param("actor")),
            *(param("creator_id"), param("request_id"), param("start_tag"), *_SAME_RUN),
        ).where(Run.id == param("parent_id")),
        [
            *(Run.id, Run.status, Run.request, Run.parent_run, Run.created_by),
            *(Run.creator_id, Run.request_id, Run.start_tag, *_SAME_RUN),
        ],
    ).returning()
)
_REPLACE_CONTEXT = compiled(
    Run.update(
        {
            Run.brand: param("brand_id"),
            Run.brand_digest: param("brand_digest"),
            Run.project_digest: param("project_digest"),
            Run.snapshot: None,  # where the build before is still served, a trigger writes it
        }
    ).where(Run.id == param("id"))
)
_SAME_STAGE = (
    *(Stage.position, Stage.key, Stage.title, Stage.priority, Stage.requires_approval, Stage.needs_model),
    Stage.budgeted,
)
# As the new run has them, in the values below and the columns.
_OF_RUN = (Stage.start_tag, Stage.brand_id, Stage.trace_context)
_VALUES_OF_RUN = (param("start_tag"), param("brand_id"), param("trace_context"))
_OF_SOURCE = Stage.id == param("source")
# All four times are ``now()``, the start of the transaction: the fork spent no time on these stages.
_COPY_COMPLETED = compiled(
    Stage.insert_from(
        Stage.select(
            *(param("id"), param("run_id"), Value("completed"), fn.now(), fn.now(), fn.now(), fn.now()),
            *(Stage.provider, *_VALUES_OF_RUN, *_SAME_STAGE),
        ).where(_OF_SOURCE),
        [
            *(Stage.id, Stage.run, Stage.status, Stage.queued_at, Stage.available_at, Stage.started_at),
            *(Stage.finished_at, Stage.provider, *_OF_RUN, *_SAME_STAGE),
        ],
    ).returning()
)
_WHEN_QUEUED = Case(None, [(param("status") == "queued", STATEMENT_TIME)])
_COPY_OPEN = compiled(
    Stage.insert_from(
        Stage.select(
            *(param("id"), param("run_id"), param("status"), _WHEN_QUEUED, _WHEN_QUEUED),
            *(*_VALUES_OF_RUN, *_SAME_STAGE),
        ).where(_OF_SOURCE),
        [Stage.id, Stage.run, Stage.status, Stage.queued_at, Stage.available_at, *_OF_RUN, *_SAME_STAGE],
    ).returning()
)
_SAME_ARTIFACT = (
    *(Artifact.name, Artifact.media_type, Artifact.sha256, Artifact.size, Artifact.content, Artifact.provider),
    *(Artifact.model, Artifact.truncated, Artifact.note, Artifact.author),
)
# Without token counts, so that no tokens are counted twice. Without the attempt's token, which is unique: it identifies
# the attempt that wrote the original.
_COPY_ARTIFACT = compiled(
    Artifact.insert_from(
        newest_of(param("source"), param("id"), param("run_id"), param("stage_id"), Value(1), *_SAME_ARTIFACT),
        [Artifact.id, Artifact.run, Artifact.stage, Artifact.version, *_SAME_ARTIFACT],
    ).returning(Artifact.version, Artifact.sha256)
)


def fork_run(
    parent_id: UUID,
    *,
    from_stage: str,
    request: str | None,
    actor: Actor,
    refresh_context: bool = False,
    quota: RunQuota | None = None,
) -> RunRecord:
    """Create a run with the parent's snapshot of workflow, brand and project, which starts at one of its stages.

    It has the parent's budget, and has spent nothing of it. Where somebody else than the parent's creator decides the
    parent's reviews, that holds for the new run and its creator.

    1. Copy the run: same snapshot, its own request where one is given.
    2. Copy the stages: those before ``from_stage`` are completed, with the newest version of their artifact and what
       reviewers said of them.
    3. Queue ``from_stage``.

    Args:
        parent_id: the run to fork, whatever its status.
        from_stage: key of the first stage that runs again.
        request: the new run's request, None for the parent's.
        actor: who forks it.
        refresh_context: whether the new run takes brand and project as they are now, not as the parent has them.
        quota: how many runs the actor may create, None for any number.

    Raises:
        QuotaExceeded: that many were created.
        NotFound: there is no such run.
        InvalidInput: the run has no such stage; or brand or project are to be taken as they are now and are archived;
            or the parent asks for four eyes, and the actor is not known.
        Conflict: a stage before it is not completed.
    """
    with transaction():
        parent = _read_parent(parent_id)
        move_snapshot(parent_id)
        stages = rows(_STAGES, run_id=parent_id)
        first = next((stage for stage in stages if stage["key"] == from_stage), None)
        if first is None:
            known = ", ".join(stage["key"] for stage in stages)
            raise InvalidInput(f"the run has no stage {from_stage!r}; it has {known}", pointer="/from_stage")
        if parent["four_eyes"]:
            check_creator_is_known(actor, pointer="")
        if quota:
            quota.count_run()
        run_id = uuid7()
        context = _present_context(parent) if refresh_context else None
        span = begin_run(run_id, parent["workflow"])
        of_run = _values_of_run(parent, context, actor, trace_context=str(span.context) if span else None)
        execute(
            _COPY_RUN,
            id=run_id,
            parent_id=parent_id,
            request=request,
            actor=actor.name,
            creator_id=actor.id,
            request_id=actor.request_id,
            start_tag=of_run["start_tag"],
        )
        if context:
            _replace_context(run_id, context)
        events = [NewEvent("run.created", data={"workflow": parent["workflow"], "forked_from": str(parent_id)})]
        said = queries.read_remarks(parent_id)
        for stage in stages:
            stage_id = uuid7()
            if stage["position"] < first["position"]:
                remarks = [text for key, text in said if key == stage["key"]]
                events.append(_copy_completed(run_id, stage_id, stage, remarks, of_run))
            else:
                status = "queued" if stage is first else "pending"
                execute(_COPY_OPEN, id=stage_id, run_id=run_id, source=stage["id"], status=status, **of_run)
                if stage is first:
                    stage_due.raise_after_commit(stage_id)
        append_events(run_id, actor.name, *events, NewEvent("stage.queued", from_stage))
        forked = {"workflow": parent["workflow"], "forked_from": str(parent_id), "from_stage": from_stage}
        record(actor, "run.fork", f"run:{run_id}", data=forked)
        if span is not None:
            span.end()
        return queries.read_run(run_id)


def _replace_context(run_id: UUID, context: RunContext) -> None:
    brand, project = context.snapshots()
    store(each for each in (brand, project) if each)
    execute(
        _REPLACE_CONTEXT,
        id=run_id,
        brand_id=context.brand_id,
        brand_digest=brand.digest if brand else None,
        project_digest=project.digest if project else None,
    )


def _present_context(parent: Row) -> RunContext:
    return lock_present_context(parent["brand_id"], parent["project_id"], pointer="/refresh_context")


def _values_of_run(
    parent: Row, context: RunContext | None, actor: Actor, *, trace_context: str | None
) -> dict[str, Any]:
    """Return what the new run's stages have of it: its brand, its start tag and its place in a trace."""
    brand_id = context.brand_id if context else parent["brand_id"]
    tag = row(statements.NEXT_START_TAG, brand_id=brand_id, actor=actor.name, priority=parent["priority"])
    assert tag is not None
    return {"brand_id": brand_id, "trace_context": trace_context, **tag}


def _read_parent(id: UUID) -> Row:
    parent = row(_LOCK_PARENT, id=id)
    if parent is None:
        raise NotFound(f"there is no run {id}")
    return parent


def _copy_completed(
    run_id: UUID, stage_id: UUID, source: Row, remarks: list[str], of_run: Mapping[str, Any]
) -> NewEvent:
    if source["status"] != "completed":
        raise Conflict(f"the stage {source['key']} is {source['status']}; only finished artifacts can be taken over")
    execute(_COPY_COMPLETED, id=stage_id, run_id=run_id, source=source["id"], **of_run)
    copied = row(_COPY_ARTIFACT, id=uuid7(), run_id=run_id, stage_id=stage_id, source=source["id"])
    assert copied is not None, "a completed stage has an artifact"
    # In this event and not as events of their own: nobody has reviewed anything in the new run.
    said = {"remarks": remarks} if remarks else {}
    return NewEvent("stage.completed", source["key"], {**copied, "taken_over": True, **said})
