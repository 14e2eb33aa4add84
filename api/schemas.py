"""The shapes of the contract."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from api.services import SERVICES
from api.typed import Input, Output
from api.values import Instant, Moment, Seconds, Whole, refusal
from vm_webapp.errors import InvalidInput
from vm_webapp.runs.records import Priority, RunStatus, StageStatus

MAX_REQUEST_CHARACTERS = 20_000


class NewRunIn(Input):
    """What a new run needs."""

    workflow: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    request: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_REQUEST_CHARACTERS)]
    brand_id: UUID | None = None
    project_id: UUID | None = None
    auto_approve: bool = False
    priority: Priority = "normal"

    @field_validator("workflow")
    @classmethod
    def _can_be_run(cls, name: str, info: ValidationInfo) -> str:
        """Refuse an unknown workflow here, so that it is told of together with whatever else is wrong."""
        assert info.context is not None
        try:
            info.context[SERVICES].catalog.get(name)
        except InvalidInput as error:
            raise refusal(str(error)) from None
        return name


class PageQuery(Input):
    """Which page of a listing."""

    limit: Whole = Field(default=50, ge=1, le=200)
    cursor: str | None = None


class RunsQuery(PageQuery):
    """Which runs."""

    status: RunStatus | None = None
    workflow: str | None = None
    brand_id: UUID | None = None
    project_id: UUID | None = None
    finished_after: Instant | None = None
    finished_before: Instant | None = None


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

    wait: Seconds = Field(default=0, ge=0, le=30)


class EventsQuery(Input):
    """Which events: those with ids above ``after``."""

    after: Whole = Field(default=0, ge=0, lt=2**63)
    limit: Whole = Field(default=50, ge=1, le=200)


class VersionQuery(Input):
    """Which version; the newest by default."""

    version: Whole | None = Field(default=None, ge=1, lt=2**31)


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


class ReadyOut(Output):
    """Whether work can progress; ``reasons`` only where it cannot, ``build`` only for those who may see it."""

    status: Literal["ready", "not_ready"]
    build: str | None = Field(default=None, exclude_if=lambda build: build is None)
    dependencies: dict[str, dict[str, Any]]
    reasons: list[str] | None = Field(default=None, exclude_if=lambda reasons: reasons is None)
