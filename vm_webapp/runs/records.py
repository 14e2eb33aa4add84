"""Plain data read from the database: nothing in it is lazy, so it may leave the thread that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal
from uuid import UUID

from vm_webapp.runs.budget import Budget

Priority = Literal["normal", "low"]
RunStatus = Literal["queued", "running", "waiting_approval", "completed", "failed", "canceled"]
StageStatus = Literal["pending", "queued", "running", "waiting_approval", "completed", "failed", "canceled"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens spent: on every version of an artifact, and on calls that failed, as far as the server counted them.

    Attributes:
        prompt_tokens: tokens that were read.
        completion_tokens: tokens that were written.
        uncounted: whether calls used tokens that the server did not count; they are in neither sum.
    """

    prompt_tokens: int
    completion_tokens: int
    uncounted: bool = False


@dataclass(frozen=True, slots=True)
class Spent:
    """Money spent on calls of models that have a price, those that failed or were abandoned included.

    Attributes:
        money: in the currency of the price table.
        estimated: whether some of the tokens are an estimate, since a server sent no usage.
    """

    money: Decimal
    estimated: bool


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """Why a run or a stage failed."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """Completed stages of all stages."""

    completed: int
    total: int


@dataclass(frozen=True, slots=True)
class WaitingOn:
    """Why a run waits, and what would end the wait."""

    kind: str
    detail: str
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ArtifactSummary:
    """The newest version of a stage's artifact, without its content.

    Attributes:
        size: in bytes of UTF-8.
        truncated: the model reached its budget, so the text breaks off.
        note: what a reader should know of how it was written, or None.
    """

    version: int
    name: str
    sha256: str
    size: int
    truncated: bool
    note: str | None


@dataclass(frozen=True, slots=True)
class StageRecord:
    """The current state of a stage."""

    key: str
    title: str
    position: int
    status: StageStatus
    attempt: int
    requires_approval: bool
    available_at: datetime | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorRecord | None
    provider: str | None
    model: str | None
    usage: Usage
    cost: Spent | None
    artifact: ArtifactSummary | None


class Reading:
    """Stands for all that was read of a run but for what it waits for: the same object as long as that is the same."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The current state of a run, with its stages in order."""

    id: UUID
    workflow: str
    status: RunStatus
    priority: Priority
    request: str
    four_eyes: bool
    brand_id: UUID | None
    project_id: UUID | None
    parent_run_id: UUID | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    archived_at: datetime | None
    error: ErrorRecord | None
    progress: Progress
    usage: Usage
    cost: Spent | None
    budget: Budget | None
    stages: tuple[StageRecord, ...]
    reading: Reading | None = field(default=None, compare=False, repr=False)
    waiting_on: WaitingOn | None = None

    def as_it_waits(self, waiting_on: WaitingOn) -> RunRecord:
        """Return the run with what it waits for; ``dataclasses.replace`` takes five times as long."""
        return RunRecord(*(*_ALL_BUT_WAITING_ON(self), waiting_on))


_ALL_BUT_WAITING_ON = attrgetter(*(each.name for each in fields(RunRecord) if each.name != "waiting_on"))


@dataclass(frozen=True, slots=True)
class RunHead:
    """A run's status and its newest event. Every change of a run adds an event, so another event shows that it changed.

    Attributes:
        event_at: tells two events with the same id apart: an id is used again if a crash of PostgreSQL undid its event.
    """

    event_id: int
    event_at: datetime
    status: RunStatus


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One entry of a run's timeline. Within a run, the order of ids is the order of commits."""

    id: int
    run_id: UUID
    stage: str | None
    type: str
    actor: str
    data: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """One version of a stage's artifact, without its content.

    Attributes:
        size: in bytes of UTF-8.
        author: the person who wrote or edited it, None where a model did.
    """

    stage: str
    version: int
    name: str
    media_type: str
    sha256: str
    size: int
    provider: str
    model: str | None
    usage: Usage
    truncated: bool
    note: str | None
    author: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewestArtifact:
    """What the next stages of a run read of an artifact; ``truncated`` as in ``ArtifactSummary``."""

    content: str
    truncated: bool


@dataclass(frozen=True, slots=True)
class ArtifactContent:
    """One version of a stage's artifact with its content."""

    artifact: ArtifactRecord
    content: str
