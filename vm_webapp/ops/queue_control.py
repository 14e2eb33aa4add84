"""The queue's figures for operators, and the commands that pause and resume claiming."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from peewee import SQL, Case, fn

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import record
from vm_webapp.db.compiled import NOW, compiled, param
from vm_webapp.db.models import Provider, Queue, WorkerHeartbeat
from vm_webapp.db.pool import autocommit, execute, rows, transaction
from vm_webapp.db.prepared import Prepared
from vm_webapp.errors import InvalidInput, NotFound
from vm_webapp.fleet.alive import ALIVE
from vm_webapp.ops.autoscale.calls import SCALING, ScaleCall, Scaler, scaling_of
from vm_webapp.runs import providers

MOST_REASON_CHARACTERS = 500
_THE_QUEUE = Queue.name == "stages"
# A queue that is paused already keeps the time of its pause. A new reason replaces the old one, together with the name
# of the person who gave it.
_REPLACES_REASON = Queue.paused_at.is_null() | param("reason").is_null(False)
_PAUSE = compiled(
    Queue.update(
        {
            Queue.paused_at: fn.coalesce(Queue.paused_at, NOW),
            Queue.paused_by: Case(None, [(_REPLACES_REASON, param("actor"))], Queue.paused_by),
            Queue.reason: fn.coalesce(param("reason"), Queue.reason),
        }
    ).where(_THE_QUEUE)
)
_RESUME = compiled(
    Queue.update({Queue.paused_at: None, Queue.paused_by: None, Queue.reason: None}).where(
        _THE_QUEUE, Queue.paused_at.is_null(False)
    )
)
# A provider has a row of its own once it has failed, or where calls are capped.
_PROVIDER_NAMES = compiled(
    (Provider.select(Provider.name) | WorkerHeartbeat.select(WorkerHeartbeat.provider)).order_by(SQL("1"))
)


@dataclass(frozen=True, slots=True)
class AutoscaleStatus:
    """How the number of workers was decided, and who changes it.

    Attributes:
        reason: why there should be so many workers.
        decided_at: when that was decided; None if nothing has ever been decided.
        stale: whether that is more than 30 seconds ago. ``desired_workers`` is then as many workers as could run all
            work at once, within the limits.
        min_workers: fewest workers.
        max_workers: most workers.
        target_wait_seconds: no stage should be due for longer.
        scaler: the process that changes the number of workers; None if another system does.
        calls: the last ten calls that did, newest first.
    """

    reason: str
    decided_at: datetime | None
    stale: bool
    min_workers: int
    max_workers: int
    target_wait_seconds: float
    scaler: Scaler | None
    calls: tuple[ScaleCall, ...]


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The figures of the queue.

    Attributes:
        queued: stages that wait, including those that back off until a later time or that a budget holds back.
        due: stages that could be claimed now, regardless of pauses and caps.
        oldest_due_seconds: for how long the oldest of them has been due; 0 if none is due.
        workers: workers that are alive and claim stages.
        slots: stages that they can run at a time.
        in_flight: stages that they run now.
        draining: workers that finish what they have and then stop.
        arrivals_per_minute: stages that became due, as a mean of the last minute; None without a fresh decision.
        completions_per_minute: attempts that ended, likewise.
        mean_stage_seconds: how long an attempt runs; None while none has ended, or without a fresh decision.
        paused: whether an operator has paused the queue, so that no stage is claimed.
        reason: why it is paused.
        desired_workers: how many workers there should be; ``autoscale`` says why.
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
    paused_at: datetime | None
    paused_by: str | None
    reason: str | None
    desired_workers: int
    autoscale: AutoscaleStatus


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker's heartbeat row. ``fresh`` says whether the worker is alive: its last heartbeat is seconds old."""

    worker_id: UUID
    host: str
    pid: int
    build: str
    newest_migration: str
    provider: str
    state: str
    fresh: bool
    slots: int
    in_flight: int
    started_at: datetime
    last_tick_at: datetime
    last_claim_at: datetime | None
    last_model_outcome: dict[str, Any] | None
    last_error: dict[str, Any] | None
    counters: dict[str, int]
    stopped_at: datetime | None


_READ = Prepared(
    f"""
    SELECT signal.*, paused_at IS NOT NULL AS paused, paused_at, paused_by, queues.reason AS pause_reason, scaling.*
      FROM autoscale_signal AS signal
      LEFT JOIN queues ON queues.name = 'stages' AND paused_at IS NOT NULL
      LEFT JOIN ({SCALING}) AS scaling ON true
     ORDER BY scaling.id DESC
    """
)
_OF_AUTOSCALE = {field.name for field in fields(AutoscaleStatus)} - {"scaler", "calls"}
_OF_QUEUE = {field.name for field in fields(QueueStatus)} - {"autoscale", "reason"}

_W = WorkerHeartbeat
_WORKERS = compiled(
    _W.select(
        *(ALIVE.alias("fresh") if field.name == "fresh" else getattr(_W, field.name) for field in fields(WorkerRecord))
    ).order_by(SQL("fresh DESC"), _W.last_tick_at.desc(), _W.worker_id)
)


def read_queue() -> QueueStatus:
    """Return the figures. They come from the partial indexes of the queue, so finished runs cost nothing."""
    with autocommit():
        found = rows(_READ)
    queue = found[0]
    scaler, calls = scaling_of(found)
    return QueueStatus(
        autoscale=AutoscaleStatus(scaler=scaler, calls=calls, **{name: queue[name] for name in _OF_AUTOSCALE}),
        reason=queue["pause_reason"],
        **{name: queue[name] for name in _OF_QUEUE},
    )


def pause_queue(*, reason: str | None, actor: Actor) -> None:
    """Pause the queue: no stage is claimed; those in flight continue. If it is paused already, only set the reason.

    Raises:
        InvalidInput: the reason says nothing, or is longer than 500 characters.
    """
    if reason is not None and not 0 < len(reason := reason.strip()) <= MOST_REASON_CHARACTERS:
        raise InvalidInput(f"a reason has 1 to {MOST_REASON_CHARACTERS} characters", pointer="/reason")
    with transaction():
        execute(_PAUSE, actor=actor.name, reason=reason)
        record(actor, "queue.pause", "queue:stages")


def resume_queue(*, actor: Actor) -> bool:
    """Resume the queue; return whether it was paused. Idle workers find the work when they next poll."""
    with transaction():
        was_paused = bool(execute(_RESUME))
        if was_paused:
            record(actor, "queue.resume", "queue:stages")
        return was_paused


def pause_provider(name: str, *, reason: str, actor: Actor) -> None:
    """Pause a provider until it is resumed; one that is paused already gets this reason.

    Raises:
        NotFound: no worker has ever used a provider of that name.
    """
    with transaction():
        _check_provider(name)
        providers.pause(name, f"{actor.name}: {reason}" if reason else f"paused by {actor.name}")
        record(actor, "provider.pause", f"provider:{name}")


def list_providers() -> tuple[str, ...]:
    """Return the names of all providers that workers have used, inside the current transaction."""
    return tuple(each["name"] for each in rows(_PROVIDER_NAMES))


def resume_provider(name: str, *, actor: Actor) -> bool:
    """Resume a paused provider; return whether it was paused.

    Raises:
        NotFound: no worker has ever used a provider of that name.
    """
    with transaction():
        _check_provider(name)
        was_paused = providers.resume(name)
        if was_paused:
            record(actor, "provider.resume", f"provider:{name}")
        return was_paused


def _check_provider(name: str) -> None:
    known = list_providers()
    if name not in known:
        raise NotFound(f"there is no provider {name}; there are: {', '.join(known) or 'none yet'}")


def list_workers() -> tuple[WorkerRecord, ...]:
    """Return every worker of the last 24 hours, those that are alive first."""
    with transaction(durable=False):
        found = rows(_WORKERS)
    return tuple(WorkerRecord(**each) for each in found)
