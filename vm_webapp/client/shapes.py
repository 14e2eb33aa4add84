"""The types of the API's response bodies, as far as the client uses them; times are RFC 3339 strings."""

from __future__ import annotations

from typing import Any, TypedDict, final


class Failure(TypedDict):
    """Why a run or a stage failed."""

    code: str
    message: str
    retryable: bool


class Budget(TypedDict, total=False):
    """What a run may spend; money as text or number."""

    tokens: int | None
    money: str | None


class WaitingOn(TypedDict):
    """Why a run is not moving."""

    kind: str
    detail: str
    since: str
    until: str | None


class ArtifactSummary(TypedDict):
    """The newest version of an artifact."""

    version: int
    name: str
    sha256: str
    size: int
    truncated: bool
    note: str | None


class Stage(TypedDict):
    """A stage of a run."""

    key: str
    title: str
    position: int
    status: str
    started_at: str | None
    finished_at: str | None
    error: Failure | None
    provider: str | None
    artifact: ArtifactSummary | None


# Final, as Event and Writing are: only then may mypy narrow their union by the key that one of them has.
@final
class Run(TypedDict):
    """A run."""

    id: str
    workflow: str
    status: str
    error: Failure | None
    waiting_on: WaitingOn | None
    stages: list[Stage]


@final
class Event(TypedDict):
    """An event of a run's timeline."""

    id: int
    run_id: str
    stage: str | None
    type: str
    actor: str
    data: dict[str, Any]
    created_at: str


@final
class Writing(TypedDict):
    """A piece of an artifact while the model writes it; only streams carry it, and it is stored nowhere.

    Attributes:
        stage: the stage's key.
        offset: the number of characters before the piece.
    """

    stage: str
    attempt: int
    offset: int
    text: str


class Scaler(TypedDict):
    """The process that changes the number of workers."""

    holder: str
    service: str | None


class ScaleCall(TypedDict):
    """A call to the platform that was to change the number of workers."""

    at: str
    service: str
    was: int | None
    wanted: int
    outcome: str
    detail: str


class AutoscaleFigures(TypedDict):
    """How the number of workers was decided, and who changes it."""

    reason: str
    decided_at: str | None
    stale: bool
    min_workers: int
    max_workers: int
    target_wait_seconds: float
    scaler: Scaler | None
    calls: list[ScaleCall]


class QueueFigures(TypedDict):
    """The figures of the queue."""

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
    paused_at: str | None
    paused_by: str | None
    reason: str | None
    desired_workers: int
    autoscale: AutoscaleFigures


class RunFilter(TypedDict):
    """A filter: a run must match every field that is not None."""

    status: str | None
    workflow: str | None
    older_than_seconds: float | None


class BatchFigures(TypedDict):
    """The result of one batch of a bulk change."""

    matched: int
    changed: int
    busy: int
    run_ids: list[str]
    next_after: str | None


class Provider(TypedDict):
    """A provider that may be called; ``resumed`` is true if it was paused."""

    name: str
    resumed: bool


class Worker(TypedDict):
    """A worker, by its heartbeat."""

    worker_id: str
    build: str
    state: str
    fresh: bool


class Resource(TypedDict):
    """A brand or a project."""

    id: str
    name: str


class Workflow(TypedDict):
    """A workflow that can be run."""

    name: str
    title: str
    description: str


class Workflows(TypedDict):
    """Every workflow; ``problems`` names the files that could not be loaded."""

    items: list[Workflow]
    problems: list[str]
