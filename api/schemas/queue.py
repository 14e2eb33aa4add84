"""Models of the queue and of its bulk changes."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints

from api.http.values import Moment
from api.operations.models import Input, Output
from vm_webapp.ops import queue_control

WorkflowName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=queue_control.MOST_REASON_CHARACTERS)
]
Age = Annotated[float, Field(ge=0, le=3_155_760_000)]  # a hundred years, which PostgreSQL can still subtract


class ScalerOut(Output):
    """The process that changes the number of workers now, and the service that it scales."""

    holder: str
    service: str | None


class ScaleCallOut(Output):
    """A call to the platform: how many instances there were, how many were asked for, and what became of it."""

    at: Moment
    service: str
    was: int | None
    wanted: int
    outcome: Literal["scaled", "dry_run", "refused", "failed", "differs"]
    detail: str


class AutoscaleOut(Output):
    """How ``desired_workers`` was decided, and who changes the number of workers: ``calls`` are the last ten.

    ``stale``: no decision has been made for 30 seconds, and ``desired_workers`` is as many workers as could run all
    work at once, within the limits.
    """

    reason: str
    decided_at: Moment | None
    stale: bool
    min_workers: int
    max_workers: int
    target_wait_seconds: float
    scaler: ScalerOut | None
    calls: list[ScaleCallOut]


class QueueOut(Output):
    """The queue in a few figures; ``due`` is what could be taken now, pauses and caps aside.

    What is a mean of the last minute or of the last attempts is null until it has been measured.
    """

    queued: int
    running: int
    due: int
    oldest_due_seconds: float
    workers: int
    slots: int
    in_flight: int
    draining: int
    arrivals_per_minute: float | None
    completions_per_minute: float | None
    mean_stage_seconds: float | None
    paused: bool
    paused_at: Moment | None
    paused_by: str | None
    reason: str | None
    desired_workers: int
    autoscale: AutoscaleOut


class PauseIn(Input):
    """Why nothing should be claimed."""

    reason: Reason | None = None


def _needs_a_filter(schema: dict[str, Any]) -> None:
    """Describe that one of the filters must be given; the core refuses a request without one."""
    schema["anyOf"] = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
        for name in ("status", "workflow", "older_than_seconds")
    ]


class BulkCancelIn(Input):
    """Which runs to cancel: at least one of the three filters."""

    model_config = ConfigDict(json_schema_extra=_needs_a_filter)

    status: Literal["queued", "running", "waiting_approval", "failed"] | None = None
    workflow: WorkflowName | None = None
    older_than_seconds: Age | None = None
    after: UUID | None = None
    dry_run: bool = False


class BulkRetryIn(Input):
    """Which failed runs to retry: at least one of the three filters."""

    model_config = ConfigDict(json_schema_extra=_needs_a_filter)

    status: Literal["failed"] | None = None
    workflow: WorkflowName | None = None
    older_than_seconds: Age | None = None
    after: UUID | None = None
    dry_run: bool = False


def _needs_a_filter_or_ids(schema: dict[str, Any]) -> None:
    _needs_a_filter(schema)
    schema["anyOf"].append({"required": ["run_ids"], "properties": {"run_ids": {"not": {"type": "null"}}}})


class BulkArchiveIn(Input):
    """Which final runs to archive, or to bring back: at least one of the four filters."""

    model_config = ConfigDict(json_schema_extra=_needs_a_filter_or_ids)

    status: Literal["completed", "failed", "canceled"] | None = None
    workflow: WorkflowName | None = None
    older_than_seconds: Age | None = None
    run_ids: Annotated[list[UUID], Field(min_length=1, max_length=100)] | None = None
    after: UUID | None = None
    dry_run: bool = False


class BulkOut(Output):
    """What a batch of at most a hundred runs did; ask again with ``next_after`` as ``after`` until it is null."""

    matched: int
    changed: int
    busy: int
    run_ids: list[UUID]
    next_after: UUID | None
