"""What can be read of runs. Listings are keyset-paginated on an index, so their cost is flat as history grows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from peewee import Expression, Tuple

from vm_webapp.db.models import Run
from vm_webapp.db.paging import Page
from vm_webapp.db.pool import Row, rows
from vm_webapp.errors import NotFound
from vm_webapp.runs.admission import due
from vm_webapp.runs.queries.reading import read_only
from vm_webapp.runs.records import (
    ArtifactSummary,
    ErrorRecord,
    Progress,
    RunRecord,
    RunStatus,
    StageRecord,
    Usage,
    WaitingOn,
)
from vm_webapp.runs.waiting import QueuedStage, read_queue_facts, why_queued


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None means any."""

    status: RunStatus | None = None
    workflow: str | None = None
    brand_id: UUID | None = None
    project_id: UUID | None = None
    finished_after: datetime | None = None
    finished_before: datetime | None = None


def read_run(run_id: UUID) -> RunRecord:
    """Return a run with its stages, inside the current transaction.

    Raises:
        NotFound: there is no such run.
    """
    found = _runs(Run.id == run_id, limit=1)
    if not found:
        raise NotFound(f"there is no run {run_id}")
    return found[0]


get_run = read_only(read_run)


@read_only
def list_runs(where: RunFilter, *, limit: int, after: tuple[datetime, UUID] | None) -> Page[RunRecord]:
    """Return runs, newest first.

    Args:
        where: which ones.
        limit: most runs of the page.
        after: ``(created_at, id)`` of the last run of the page before, None for the first page.
    """
    conditions = list(_conditions(where))
    if after is not None:
        conditions.append(Tuple(Run.created_at, Run.id) < Tuple(*after))
    found = _runs(*conditions, limit=limit + 1)
    page = found[:limit]
    more = len(found) > limit
    return Page(tuple(page), (page[-1].created_at, page[-1].id) if more else None)


def _conditions(where: RunFilter) -> Iterable[Expression]:
    for column, value in (
        (Run.status, where.status),
        (Run.workflow, where.workflow),
        (Run.brand, where.brand_id),
        (Run.project, where.project_id),
    ):
        if value is not None:
            yield column == value
    if where.finished_after is not None:
        yield Run.finished_at >= where.finished_after
    if where.finished_before is not None:
        yield Run.finished_at < where.finished_before


def _runs(*conditions: Any, limit: int) -> list[RunRecord]:
    """Read runs, their stages and what they wait for, in as many statements for one run as for a page of them."""
    query = Run.select(
        Run.id,
        Run.workflow,
        Run.status,
        Run.priority,
        Run.request,
        Run.brand,
        Run.project,
        Run.parent_run,
        Run.error,
        Run.created_at,
        Run.started_at,
        Run.finished_at,
    ).order_by(Run.created_at.desc(), Run.id.desc())
    if conditions:
        query = query.where(*conditions)
    found = cast(list[Row], list(query.limit(limit).dicts()))
    stages = _stages([run["id"] for run in found])
    waits = _waits([stage for of_run in stages.values() for stage in of_run])
    return [_run(run, stages.get(run["id"], []), waits.get(run["id"])) for run in found]


def _waits(stages: Iterable[Row]) -> dict[UUID, WaitingOn]:
    """Say what each run waits for that waits for something; a run has at most one stage that can."""
    waits: dict[UUID, WaitingOn] = {}
    queued: list[QueuedStage] = []
    for stage in stages:
        if stage["status"] == "waiting_approval":
            detail = f"the draft of {stage['title']} waits for a person"
            waits[stage["run_id"]] = WaitingOn("approval", detail, stage["drafted_at"])
        elif stage["status"] == "queued":
            error = stage["error"]["message"] if stage["error"] else None
            queued.append(
                QueuedStage(
                    stage["run_id"],
                    stage["title"],
                    stage["needs_model"],
                    stage["queued_at"],
                    stage["available_at"],
                    error,
                    stage["due"],
                )
            )
    if queued:
        facts = read_queue_facts(stage.run_id for stage in queued)
        waits |= {stage.run_id: why_queued(stage, facts) for stage in queued}
    return waits


def _stages(run_ids: list[UUID]) -> dict[UUID, list[Row]]:
    """Read the stages of many runs with their newest artifact and what all their versions cost."""
    grouped: dict[UUID, list[Row]] = {}
    found = rows(
        f"""
        SELECT s.run_id, s.key, s.title, s.position, s.status, s.attempt, s.requires_approval, s.needs_model,
               s.available_at, {due("s")} AS due, s.queued_at, s.started_at, s.finished_at,
               s.error, coalesce(a.provider, s.provider) AS provider,
               a.model, a.version, a.name, a.sha256, a.size, a.created_at AS drafted_at,
               coalesce(spent.prompt_tokens, 0) AS prompt_tokens,
               coalesce(spent.completion_tokens, 0) AS completion_tokens
          FROM stages s
          LEFT JOIN LATERAL (
               SELECT version, name, sha256, size, provider, model, created_at
                 FROM artifacts WHERE stage_id = s.id ORDER BY version DESC LIMIT 1) a ON true
          LEFT JOIN LATERAL (
               SELECT sum(prompt_tokens)::bigint AS prompt_tokens, sum(completion_tokens)::bigint AS completion_tokens
                 FROM artifacts WHERE stage_id = s.id) spent ON true
         WHERE s.run_id = ANY(%(run_ids)s::uuid[])
         ORDER BY s.position
        """,
        run_ids=run_ids,
    )
    for stage in found:
        grouped.setdefault(stage["run_id"], []).append(stage)
    return grouped


def _run(run: Row, stages: list[Row], waiting_on: WaitingOn | None) -> RunRecord:
    records = tuple(_stage(stage) for stage in stages)
    return RunRecord(
        id=run["id"],
        workflow=run["workflow"],
        status=run["status"],
        priority="low" if run["priority"] else "normal",
        request=run["request"],
        brand_id=run["brand"],
        project_id=run["project"],
        parent_run_id=run["parent_run"],
        created_at=run["created_at"],
        started_at=run["started_at"],
        finished_at=run["finished_at"],
        error=_error(run["error"]),
        progress=Progress(sum(stage.status == "completed" for stage in records), len(records)),
        usage=Usage(
            sum(stage.usage.prompt_tokens for stage in records),
            sum(stage.usage.completion_tokens for stage in records),
        ),
        waiting_on=waiting_on,
        stages=records,
    )


def _stage(stage: Row) -> StageRecord:
    return StageRecord(
        key=stage["key"],
        title=stage["title"],
        position=stage["position"],
        status=stage["status"],
        attempt=stage["attempt"],
        requires_approval=stage["requires_approval"],
        available_at=stage["available_at"],
        queued_at=stage["queued_at"],
        started_at=stage["started_at"],
        finished_at=stage["finished_at"],
        error=_error(stage["error"]),
        provider=stage["provider"],
        model=stage["model"],
        usage=Usage(stage["prompt_tokens"], stage["completion_tokens"]),
        artifact=ArtifactSummary(stage["version"], stage["name"], stage["sha256"], stage["size"])
        if stage["version"]
        else None,
    )


def _error(stored: Row | None) -> ErrorRecord | None:
    return ErrorRecord(stored["code"], stored["message"], stored["retryable"]) if stored else None
