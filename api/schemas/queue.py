"""Models of the queue and of its bulk changes."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints

from api.http.values import Moment
from api.operations.models import Input, Output

WorkflowName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Age = Annotated[float, Field(ge=0, le=3_155_760_000)]  # a hundred years, which PostgreSQL can still subtract


class QueueOut(Output):
    """The queue in a few figures; ``due`` is what could be taken now, pauses and caps aside."""

    queued: int
    running: int
    due: int
    oldest_due_seconds: float
    workers: int
    slots: int
    in_flight: int
    paused: bool
    paused_at: Moment | None
    paused_by: str | None
    reason: str | None
    desired_workers: int


class PauseIn(Input):
    """Why nothing should be claimed."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)] | None = None


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


class BulkOut(Output):
    """What a batch of at most a hundred runs did; ask again with ``next_after`` as ``after`` until it is null."""

    matched: int
    changed: int
    busy: int
    run_ids: list[UUID]
    next_after: UUID | None
