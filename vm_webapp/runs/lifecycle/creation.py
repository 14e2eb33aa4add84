"""Creating runs: their rows, their stages and their first events, in one statement."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import values_of_actor
from vm_webapp.access.run_quota import RunQuota
from vm_webapp.db.pool import Row, autocommit, rows, transaction
from vm_webapp.errors import InvalidInput
from vm_webapp.runs import statements
from vm_webapp.runs.budget import Budget
from vm_webapp.runs.lifecycle.four_eyes import check_creator_is_known
from vm_webapp.runs.lifecycle.run_context import RunContext, lock_context
from vm_webapp.runs.records import Priority, Progress, RunRecord, StageRecord, Usage
from vm_webapp.runs.run_spans import begin_run
from vm_webapp.runs.signals import run_created, stage_due
from vm_webapp.runs.snapshots import DIGESTS, NewSnapshot, not_known_as_stored, remember_after_commit, values_of
from vm_webapp.runs.waiting import QueuedStage, QueueFacts, facts_of, why_queued
from vm_webapp.tracing.spans import Span
from vm_webapp.workflows.model import StageSpec, Workflow

PRIORITIES: dict[Priority, int] = {"normal": 0, "low": 1}
NOTHING_SPENT = Usage(0, 0)
NO_CONTEXT = RunContext(None, None)


@dataclass(frozen=True, slots=True)
class NewRun:
    """The run to be created.

    Attributes:
        auto_approve: whether drafts are accepted as they are.
        four_eyes: whether somebody else than its creator decides its reviews.
        budget: what its calls may spend, None for any sum.
    """

    workflow: Workflow
    request: str
    brand_id: UUID | None = None
    project_id: UUID | None = None
    auto_approve: bool = False
    four_eyes: bool = False
    priority: Priority = "normal"
    budget: Budget | None = None

    @property
    def has_context(self) -> bool:
        """Whether it has a brand or a project, which are locked until it is there."""
        return self.brand_id is not None or self.project_id is not None


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A run that may be created; made in the context of the request that asks for it.

    Attributes:
        run_id: its id. UUIDv7 keys sort by age, by which the queue orders runs with the same start tag.
        stage_ids: those of its stages.
        span: of its creation, None where the request is not traced.
    """

    new: NewRun
    actor: Actor
    run_id: UUID
    stage_ids: tuple[UUID, ...]
    span: Span | None


def prepare_run(new: NewRun, actor: Actor) -> PreparedRun:
    """Check what can be checked without the database, and begin the span of the run's creation.

    Args:
        new: the run to be created.
        actor: who creates it.

    Raises:
        InvalidInput: reviews are to be decided by somebody else although there will be none, or although the creator
            is not known.
    """
    if new.four_eyes:
        if new.auto_approve:
            raise InvalidInput("four eyes need reviews, and auto_approve leaves none", pointer="/four_eyes")
        check_creator_is_known(actor, pointer="/four_eyes")
    run_id = uuid7()
    return PreparedRun(
        new, actor, run_id, tuple(uuid7() for _ in new.workflow.stages), begin_run(run_id, new.workflow.name)
    )


def create_run(new: NewRun, *, actor: Actor, quota: RunQuota | None = None) -> RunRecord:
    """Persist a run whose first stage is due.

    Args:
        new: the run to be created.
        actor: who creates it.
        quota: how many runs the actor may create, None for any number.

    Raises:
        QuotaExceeded: that many were created.
        InvalidInput: as ``prepare_run``; or the brand or the project does not exist or is archived, or the project is
            of another brand.
        DatabaseUnavailable: nothing was written, or, if the connection broke while it was, the outcome is unknown.
    """
    prepared = prepare_run(new, actor)
    # The one statement that writes is its own transaction, unless it must find what was locked before.
    with transaction() if new.has_context else autocommit():
        context = lock_context(new.brand_id, new.project_id)
        created = _create([prepared], context, quota)
        if not created:
            assert quota is not None
            raise quota.exceeded()
    return _record(prepared, context, *created[0])


def create_runs(prepared: Sequence[PreparedRun]) -> list[RunRecord]:
    """Persist runs without brand, project and quota as ``create_run`` does, all of them by one statement.

    Raises:
        DatabaseUnavailable: nothing was written, or, if the connection broke while it was, the outcome is unknown.
    """
    with autocommit():
        created = _create(prepared, NO_CONTEXT, quota=None)
    # After the commit, so that a worker hears of the first stages before the responses are made.
    return [_record(each, NO_CONTEXT, *known) for each, known in zip(prepared, created, strict=True)]


def _create(
    prepared: Sequence[PreparedRun], context: RunContext, quota: RunQuota | None
) -> list[tuple[Row, QueueFacts]]:
    """Create the runs, or none if their quota is used up; return of each what is known and why it may wait."""
    of_context = context.snapshots()
    created = _insert([_values(each, context, of_context) for each in prepared], _kept(prepared, of_context), quota)
    if not created:
        return []
    for each in prepared:
        stage_due.raise_after_commit(each.stage_ids[0])
        run_created.raise_after_commit(each.run_id)
        if each.span is not None:
            each.span.end()
    return [(created[each.run_id], facts_of([created[each.run_id]])) for each in prepared]


def _kept(prepared: Iterable[PreparedRun], of_context: Iterable[NewSnapshot | None]) -> list[NewSnapshot]:
    """Return the snapshots to which the runs refer, each once."""
    workflows = {each.new.workflow.digest: each.new.workflow for each in prepared}
    # Those of workflows in one order for all: two statements that store the same ones would wait for each other.
    of_workflows = (NewSnapshot.of_workflow(workflows[digest]) for digest in sorted(workflows))
    return list({each.digest: each for each in (*of_workflows, *of_context) if each}.values())


def _insert(
    values: Sequence[dict[str, Any]], snapshots: Sequence[NewSnapshot], quota: RunQuota | None
) -> dict[UUID, Row]:
    """Insert runs that refer to these snapshots; return what is known of each by its id, nothing if none was."""
    statement = statements.create_run_within_quota() if quota else statements.create_runs()
    given: dict[str, Any] = dict(
        runs=json.dumps(values, ensure_ascii=False, default=str),
        digests=[each.digest for each in snapshots],
        **asdict(quota) if quota else {},
    )
    unknown = not_known_as_stored(snapshots)
    created = rows(statement, **given, **values_of(unknown))
    if not created and len(unknown) < len(snapshots):
        # One that this process has seen stored was purged, with the last run that referred to it.
        created = rows(statement, **given, **values_of(snapshots))
    if created:
        remember_after_commit(given["digests"])
    return {each["id"]: each for each in created}


def _values(
    prepared: PreparedRun, context: RunContext, of_context: tuple[NewSnapshot | None, NewSnapshot | None]
) -> dict[str, Any]:
    """Return what ``statements.create_runs`` needs to know of a run."""
    new, budget = prepared.new, prepared.new.budget
    digests = new.workflow.digest, *(each.digest if each else None for each in of_context)
    return {
        **values_of_actor(prepared.actor),
        **{name: f"\\x{each.hex()}" if each else None for name, each in zip(DIGESTS, digests, strict=True)},
        "id": prepared.run_id,
        "workflow": new.workflow.name,
        "priority": PRIORITIES[new.priority],
        "request": new.request,
        "auto_approve": new.auto_approve,
        "four_eyes": new.four_eyes,
        "brand_id": context.brand_id,
        "project_id": new.project_id,
        "trace_context": str(prepared.span.context) if prepared.span else None,
        "budget_tokens": budget.tokens if budget else None,
        "budget_money": budget.money if budget else None,
        "stages": [
            {
                "id": stage_id,
                "key": stage.key,
                "title": stage.title,
                "requires_approval": stage.requires_approval,
                "needs_model": stage.needs_model,
            }
            for stage_id, stage in zip(prepared.stage_ids, new.workflow.stages, strict=True)
        ],
        "data": {"workflow": new.workflow.name} | (budget.facts() if budget else {}),
    }


def _record(prepared: PreparedRun, context: RunContext, created: Row, facts: QueueFacts) -> RunRecord:
    """Return the run as it was created, without reading it."""
    new, queued_at = prepared.new, created["queued_at"]
    first = new.workflow.stages[0]
    due = QueuedStage(prepared.run_id, first.title, first.needs_model, queued_at, queued_at, error=None, due=True)
    return RunRecord(
        id=prepared.run_id,
        workflow=new.workflow.name,
        status="queued",
        priority=new.priority,
        request=new.request,
        four_eyes=new.four_eyes,
        brand_id=context.brand_id,
        project_id=new.project_id,
        parent_run_id=None,
        created_at=created["created_at"],
        started_at=None,
        finished_at=None,
        archived_at=None,
        error=None,
        progress=Progress(0, len(new.workflow.stages)),
        usage=NOTHING_SPENT,
        cost=None,
        budget=new.budget,
        waiting_on=why_queued(due, facts),
        stages=tuple(
            _stage(stage, position, queued_at if position == 1 else None)
            for position, stage in enumerate(new.workflow.stages, start=1)
        ),
    )


def _stage(stage: StageSpec, position: int, queued_at: datetime | None) -> StageRecord:
    return StageRecord(
        key=stage.key,
        title=stage.title,
        position=position,
        status="queued" if queued_at else "pending",
        attempt=0,
        requires_approval=stage.requires_approval,
        available_at=queued_at,
        queued_at=queued_at,
        started_at=None,
        finished_at=None,
        error=None,
        provider=None,
        model=None,
        usage=NOTHING_SPENT,
        cost=None,
        artifact=None,
    )
