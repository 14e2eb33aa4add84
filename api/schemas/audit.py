"""Models of the audit trail."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from api.http.values import AS_WHOLE, Instant, Moment, Whole
from api.operations.models import Input, Output

Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class AuditQuery(Input):
    """Which entries: all that match every filter given."""

    actor: Text | None = Field(default=None, description="such as key:ann")
    action: Text | None = Field(default=None, description="such as run.cancel, or request.refused")
    target: Text | None = Field(default=None, description="such as run:<id> or key:<name>")
    address: Text | None = Field(default=None, description="the address that the request came from")
    result: Literal["done", "refused"] | None = None
    since: Instant | None = Field(default=None, description="the earliest time")
    until: Instant | None = Field(default=None, description="the time before which they were made")
    limit: Whole = Field(default=50, ge=1, le=200)
    # PostgreSQL's bigint; a larger number would be an error of the database.
    cursor: Annotated[int, Field(ge=1, lt=2**63), AS_WHOLE] | None = Field(
        default=None, description="the next_cursor of the page before"
    )


class AuditOut(Output):
    """An entry: who did what to what, from where, with which result; position is null until it is sealed."""

    id: int
    at: Moment
    actor: str
    actor_id: str | None
    role: str | None
    address: str | None
    request_id: str | None
    action: str
    target: str | None
    result: Literal["done", "refused"]
    data: dict[str, Any]
    position: int | None
