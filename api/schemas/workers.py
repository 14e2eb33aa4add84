"""Models of workers."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from api.http.values import Moment
from api.operations.models import Output


class WorkerOut(Output):
    """A worker, by its heartbeat."""

    worker_id: UUID
    host: str
    pid: int
    build: str
    newest_migration: str
    provider: str
    state: Literal["starting", "working", "draining", "stopped"]
    fresh: bool
    slots: int
    in_flight: int
    started_at: Moment
    last_tick_at: Moment
    last_claim_at: Moment | None
    last_model_outcome: dict[str, Any] | None
    last_error: dict[str, Any] | None
    counters: dict[str, int]
    stopped_at: Moment | None
