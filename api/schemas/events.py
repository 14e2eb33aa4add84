"""Models of a run's timeline."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field

from api.http.values import Moment, Whole
from api.operations.models import Input, Output


class EventsQuery(Input):
    """Which events: those with ids above ``after``."""

    # PostgreSQL's bigint; a larger number would be an error of the database.
    after: Whole = Field(default=0, ge=0, lt=2**63, description="the next_cursor of the page before")
    limit: Whole = Field(default=50, ge=1, le=200)


class EventOut(Output):
    """An event of a timeline."""

    id: int
    run_id: UUID
    stage: str | None
    type: str
    actor: str
    data: dict[str, Any]
    created_at: Moment
