"""What can be read of runs. Every listing is keyset-paginated on an index, so its cost is flat as history grows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from peewee import Expression, Tuple

from vm_webapp.db.models import Event, Run
from vm_webapp.db.pool import Row, row, rows, transaction
from vm_webapp.errors import NotFound
from vm_webapp.runs.records import (
    ArtifactContent,
    ArtifactRecord,
    ArtifactSummary,
    ErrorRecord,
    EventRecord,
    Page,
    Progress,
    RunRecord,
    RunStatus,
    StageRecord,
    Usage,
    WaitingOn,
)

P = ParamSpec("P")
T = TypeVar("T")


def _read_only(query: Callable[P, T]) -> Callable[P, T]:
    @wraps(query)
    def in_transaction(*args: P.args, **kwargs: P.kwargs) -> T:
        with transaction():
            return query(*args, **kwargs)

    return in_transaction


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


get_run = _read_only(read_run)


@_read_only
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


@_read_only
def run_statuses(run_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the status of each run that exists, for any number of runs at once."""
    query = Run.select(Run.id, Run.status).where(Run.id.in_(list(run_ids))).tuples()
    return dict(cast(Iterable[tuple[UUID, str]], query))


@_read_only
def list_events(run_id: UUID, *, after: int, limit: int) -> list[EventRecord]:
    """Return the run's events with ids above ``after``, oldest first.

    Raises:
        NotFound: there is no such run.
    """
    query = Event.select().where(Event.run == run_id, Event.id > after).order_by(Event.id).limit(limit)
    events = [
        EventRecord(event.id, run_id, event.stage, event.type, event.actor, event.data, event.created_at)
        for event in query
    ]
    if not events:
        _require_run(run_id)
    return events


@_read_only
def list_artifacts(run_id: UUID) -> list[ArtifactRecord]:
    """Return every version of every stage's document, in the order of stages and versions.

    Raises:
        NotFound: there is no such run.
    """
    found = _artifact_rows("a.run_id = %(run_id)s ORDER BY s.position, a.version", run_id=run_id)
    if not found:
        _require_run(run_id)
    return [_artifact(artifact) for artifact in found]


@_read_only
def read_artifact(run_id: UUID, stage: str, *, version: int | None) -> ArtifactContent:
    """Return one version of a stage's document, the newest where ``version`` is None.

    Raises:
        NotFound: no such run, stage or version.
    """
    found = _artifact_rows(
        """
        a.run_id = %(run_id)s AND s.key = %(stage)s AND (%(version)s IS NULL OR a.version = %(version)s)
        ORDER BY a.version DESC LIMIT 1
        """,
        ", a.content",
        run_id=run_id,
        stage=stage,
        version=version,
    )
    if not found:
        _require_run(run_id)
        named = f"version {version} of the document" if version else "a document"
        raise NotFound(f"the stage {stage} of this run does not have {named}")
    content = found[0].pop("content")
    return ArtifactContent(_artifact(found[0]), content)


@_read_only
def newest_documents(run_id: UUID) -> dict[str, str]:
    """Return the newest document of each stage that has one: stage key → content."""
    found = rows(
        """
        SELECT DISTINCT ON (s.position) s.key, a.content
          FROM artifacts a JOIN stages s ON s.id = a.stage_id
         WHERE a.run_id = %(run_id)s
         ORDER BY s.position, a.version DESC
        """,
        run_id=run_id,
    )
    return {document["key"]: document["content"] for document in found}


def _require_run(run_id: UUID) -> None:
    if row("SELECT 1 AS found FROM runs WHERE id = %(id)s", id=run_id) is None:
        raise NotFound(f"there is no run {run_id}")


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
    """Read runs and all their stages in two statements, however many runs there are."""
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
    return [_run(run, stages.get(run["id"], [])) for run in found]


def _stages(run_ids: list[UUID]) -> dict[UUID, list[tuple[Row, StageRecord]]]:
    """Read the stages of many runs with their newest artifact and what all their versions cost."""
    grouped: dict[UUID, list[tuple[Row, StageRecord]]] = {}
    found = rows(
        """
        SELECT s.run_id, s.key, s.title, s.position, s.status, s.attempt, s.requires_approval, s.available_at,
               s.queued_at, s.started_at, s.finished_at, s.error, coalesce(a.provider, s.provider) AS provider,
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
        grouped.setdefault(stage["run_id"], []).append((stage, _stage(stage)))
    return grouped


def _run(run: Row, stages: list[tuple[Row, StageRecord]]) -> RunRecord:
    records = tuple(record for _, record in stages)
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
        waiting_on=_waiting_on(stages),
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


def _waiting_on(stages: list[tuple[Row, StageRecord]]) -> WaitingOn | None:
    for read, stage in stages:
        if stage.status == "waiting_approval":
            return WaitingOn("approval", f"the draft of {stage.title} waits for a person", read["drafted_at"])
        if stage.status == "queued" and stage.error and stage.queued_at:
            detail = f"{stage.title} will be tried again: {stage.error.message}"
            return WaitingOn("retry", detail, stage.queued_at, stage.available_at)
    return None


def _error(stored: Row | None) -> ErrorRecord | None:
    return ErrorRecord(stored["code"], stored["message"], stored["retryable"]) if stored else None


def _artifact_rows(condition: str, further_columns: str = "", **params: Any) -> list[Row]:
    return rows(
        f"""
        SELECT s.key AS stage, a.version, a.name, a.media_type, a.sha256, a.size, a.provider, a.model,
               coalesce(a.prompt_tokens, 0) AS prompt_tokens, coalesce(a.completion_tokens, 0) AS completion_tokens,
               a.truncated, a.created_at {further_columns}
          FROM artifacts a JOIN stages s ON s.id = a.stage_id
         WHERE {condition}
        """,
        **params,
    )


def _artifact(found: Row) -> ArtifactRecord:
    usage = Usage(found.pop("prompt_tokens"), found.pop("completion_tokens"))
    return ArtifactRecord(**found, usage=usage)
