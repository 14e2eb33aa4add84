"""Events and stages of a run, made without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from vm_webapp.runs.records import EventRecord, StageRecord, StageStatus, Usage

RUN = UUID("01a210a9-d3d9-7077-a15d-600fd463d098")
START = datetime(2026, 11, 26, 8, 30, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return the time this many seconds after the run was created."""
    return START + timedelta(seconds=seconds)


def event(
    id: int, seconds: float, type: str, stage: str | None = None, actor: str = "worker", **data: Any
) -> EventRecord:
    """Return an event."""
    return EventRecord(id, RUN, stage, type, actor, data, at(seconds))


def stage(key: str, status: StageStatus = "completed", position: int = 1) -> StageRecord:
    """Return a stage."""
    return StageRecord(
        key=key,
        title=key.capitalize(),
        position=position,
        status=status,
        attempt=1,
        requires_approval=False,
        available_at=None,
        queued_at=None,
        started_at=None,
        finished_at=None,
        error=None,
        provider=None,
        model=None,
        usage=Usage(0, 0),
        cost=None,
        artifact=None,
    )
