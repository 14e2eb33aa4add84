"""The shapes of the contract."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, PlainSerializer, StringConstraints, field_validator

from api.problems import FieldProblem, RequestError
from api.typed import Input, Output
from vm_webapp.runs.records import Priority, RunStatus, StageStatus

MAX_REQUEST_CHARACTERS = 20_000


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str)]


class NewRunIn(Input):
    """What a new run needs."""

    workflow: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    request: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_REQUEST_CHARACTERS)]
    brand_id: UUID | None = None
    project_id: UUID | None = None
    auto_approve: bool = False
    priority: Priority = "normal"


class PageQuery(Input):
    """Which page of a listing."""

    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = None


class RunsQuery(PageQuery):
    """Which runs."""

    status: RunStatus | None = None
    workflow: str | None = None
    brand_id: UUID | None = None
    project_id: UUID | None = None
    finished_after: AwareDatetime | None = None
    finished_before: AwareDatetime | None = None


class RunPath(Input):
    """A run."""

    run_id: UUID


class ArtifactPath(RunPath):
    """A stage's document."""

    stage: str


class WorkflowPath(Input):
    """A workflow."""

    name: str


class WaitQuery(Input):
    """How long to wait for a change of the run's status, in seconds."""

    wait: float = Field(default=0, ge=0, le=30)


class EventsQuery(Input):
    """Which events: those with ids above ``after``."""

    after: int = Field(default=0, ge=0, lt=2**63)
    limit: int = Field(default=50, ge=1, le=200)


class VersionQuery(Input):
    """Which version; the newest by default."""

    version: int | None = Field(default=None, ge=1, lt=2**31)


class UsageOut(Output):
    """Tokens spent."""

    prompt_tokens: int
    completion_tokens: int


class ErrorOut(Output):
    """Why something failed."""

    code: str
    message: str
    retryable: bool


class ProgressOut(Output):
    """Completed stages of all."""

    completed: int
    total: int


class WaitingOnOut(Output):
    """Why a run is not moving."""

    kind: str
    detail: str
    since: Moment
    until: Moment | None


class ArtifactSummaryOut(Output):
    """The newest version of a document."""

    version: int
    name: str
    sha256: str
    size: int


class StageOut(Output):
    """A stage."""

    key: str
    title: str
    position: int
    status: StageStatus
    attempt: int
    requires_approval: bool
    available_at: Moment | None
    queued_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    error: ErrorOut | None
    provider: str | None
    model: str | None
    usage: UsageOut
    artifact: ArtifactSummaryOut | None


class RunOut(Output):
    """A run."""

    id: UUID
    workflow: str
    status: RunStatus
    priority: Priority
    request: str
    brand_id: UUID | None
    project_id: UUID | None
    parent_run_id: UUID | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    error: ErrorOut | None
    progress: ProgressOut
    usage: UsageOut
    waiting_on: WaitingOnOut | None
    stages: list[StageOut]


class RunsOut(Output):
    """A page of runs."""

    items: list[RunOut]
    next_cursor: str | None


class EventOut(Output):
    """An event of a timeline."""

    id: int
    run_id: UUID
    stage: str | None
    type: str
    actor: str
    data: dict[str, Any]
    created_at: Moment


class EventsOut(Output):
    """A page of a timeline; ``next_cursor`` is the next page's ``after``."""

    items: list[EventOut]
    next_cursor: str | None


class ArtifactOut(Output):
    """One version of a document."""

    stage: str
    version: int
    name: str
    media_type: str
    sha256: str
    size: int
    provider: str
    model: str | None
    usage: UsageOut
    truncated: bool
    created_at: Moment


class ArtifactsOut(Output):
    """Every version of every document of a run."""

    items: list[ArtifactOut]
    next_cursor: None = None


class WorkflowStageOut(Output):
    """A stage of a workflow."""

    key: str
    title: str
    requires_approval: bool
    needs_model: bool


class WorkflowOut(Output):
    """A workflow that can be run."""

    name: str
    title: str
    description: str
    stages: list[WorkflowStageOut]


class WorkflowsOut(Output):
    """Every workflow; ``problems`` names the files that could not be loaded."""

    items: list[WorkflowOut]
    next_cursor: None = None
    problems: list[str]


class LiveOut(Output):
    """The process answers."""

    status: Literal["live"] = "live"


class Cursor(Input):
    """A position within a listing, as it is before it is made opaque."""

    at: AwareDatetime
    id: UUID

    def encode(self) -> str:
        """Return the opaque form."""
        return base64.urlsafe_b64encode(self.model_dump_json().encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Return the cursor of an opaque form.

        Raises:
            RequestError: it is not one of ours.
        """
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return cls.model_validate(json.loads(raw))
        except ValueError:
            message = "not a cursor of this listing; take next_cursor as it was answered"
            errors = [FieldProblem(parameter="cursor", message=message)]
            raise RequestError(422, "invalid_parameter", f"cursor: {message}", errors=errors) from None

    @field_validator("at")
    @classmethod
    def _within_what_can_be_stored(cls, at: datetime) -> datetime:
        if not 2000 <= at.year <= 9000:
            raise ValueError("no such time")
        return at
