"""Creating a run: its row, its stages and its first events, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import values_of_actor
from vm_webapp.access.run_quota import RunQuota
from vm_webapp.db.pool import Row, autocommit, jsonb, row, transaction
from vm_webapp.db.prepared import Prepared
from vm_webapp.errors import InvalidInput
from vm_webapp.runs import statements
from vm_webapp.runs.budget import Budget
from vm_webapp.runs.lifecycle.four_eyes import check_creator_is_known
from vm_webapp.runs.lifecycle.run_context import RunContext, lock_context
from vm_webapp.runs.records import Priority, Progress, RunRecord, StageRecord, Usage
from vm_webapp.runs.run_spans import begin_run
from vm_webapp.runs.signals import run_created, stage_due
from vm_webapp.runs.snapshots import DIGESTS, NewSnapshot, not_known_as_stored, remember_after_commit, values_of
from vm_webapp.runs.waiting import QueuedStage, facts_of, why_queued
from vm_webapp.workflows.model import StageSpec, Workflow

PRIORITIES: dict[Priority, int] = {"normal": 0, "low": 1}
NOTHING_SPENT = Usage(0, 0)


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


def create_run(new: NewRun, *, actor: Actor, quota: RunQuota | None = None) -> RunRecord:
    """Persist a run whose first stage is due.

    Args:
        new: the run to be created.
        actor: who creates it.
        quota: how many runs the actor may create, None for any number.

    Raises:
        QuotaExceeded: that many were created.
        InvalidInput: reviews are to be decided by somebody else although there will be none, or although the creator
            is not known; the brand or the project does not exist or is archived, or the project is of another brand.
        DatabaseUnavailable: nothing was written, or, if the connection broke while it was, the outcome is unknown.
    """
    if new.four_eyes:
        if new.auto_approve:
            raise InvalidInput("four eyes need reviews, and auto_approve leaves none", pointer="/four_eyes")
        check_creator_is_known(actor, pointer="/four_eyes")
    # UUIDv7 keys sort by age, by which the queue orders runs with the same start tag.
    run_id, stages = uuid7(), new.workflow.stages
    ids = [uuid7() for _ in stages]
    span = begin_run(run_id, new.workflow.name)
    # The one statement that writes is its own transaction, unless it must find what was locked before.
    with transaction() if new.brand_id or new.project_id else autocommit():
        context = lock_context(new.brand_id, new.project_id)
        kept = NewSnapshot.of_workflow(new.workflow), *context.snapshots()
        values = dict(
            **asdict(quota) if quota else {},
            id=run_id,
            workflow=new.workflow.name,
            priority=PRIORITIES[new.priority],
            request=new.request,
            auto_approve=new.auto_approve,
            four_eyes=new.four_eyes,
            brand_id=context.brand_id,
            project_id=new.project_id,
            stage_ids=ids,
            keys=[stage.key for stage in stages],
            titles=[stage.title for stage in stages],
            requires_approval=[stage.requires_approval for stage in stages],
            needs_model=[stage.needs_model for stage in stages],
            trace_context=str(span.context) if span else None,
            **values_of_actor(actor),
            budget_tokens=new.budget.tokens if new.budget else None,
            budget_money=new.budget.money if new.budget else None,
            data=jsonb({"workflow": new.workflow.name} | (new.budget.facts() if new.budget else {})),
        )
        created = _insert(statements.create_run_within_quota() if quota else statements.create_run(), values, kept)
        if created is None:
            assert quota is not None
            raise quota.exceeded()
        stage_due.raise_after_commit(ids[0])
        run_created.raise_after_commit(run_id)
        if span is not None:
            span.end()
        return _record(run_id, new, context, created)


def _insert(statement: Prepared, values: dict[str, Any], kept: Sequence[NewSnapshot | None]) -> Row | None:
    """Insert the run with what it keeps of workflow, brand and project, in this order; None if its quota is used up."""
    digests = [each.digest if each else None for each in kept]
    values |= dict(zip(DIGESTS, digests, strict=True))
    snapshots = [each for each in kept if each]
    values["digests"] = [each.digest for each in snapshots]
    unknown = not_known_as_stored(snapshots)
    created = row(statement, **values, **values_of(unknown))
    if created is None and len(unknown) < len(snapshots):
        # One that this process has seen stored was purged, with the last run that referred to it.
        created = row(statement, **values, **values_of(snapshots))
    if created is not None:
        remember_after_commit(values["digests"])
    return created


def _record(run_id: UUID, new: NewRun, context: RunContext, created: Row) -> RunRecord:
    """Return the run as it was created, without reading it."""
    first, queued_at = new.workflow.stages[0], created["queued_at"]
    due = QueuedStage(run_id, first.title, first.needs_model, queued_at, queued_at, error=None, due=True)
    return RunRecord(
        id=run_id,
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
        waiting_on=why_queued(due, facts_of([created])),
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
