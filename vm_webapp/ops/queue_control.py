"""The queue's figures for operators, and the commands that pause and resume claiming."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from peewee import SQL, Case, Select, fn

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import record
from vm_webapp.db.compiled import COUNT, NOW, compiled, param
from vm_webapp.db.models import Provider, Queue, Stage, WorkerHeartbeat
from vm_webapp.db.pool import database, execute, row, rows, transaction
from vm_webapp.errors import NotFound
from vm_webapp.fleet.alive import ALIVE, read_last_group, read_worker_groups
from vm_webapp.runs import providers
from vm_webapp.runs.admission import read_demand
from vm_webapp.runs.pauses import read_pauses

ASSUMED_SLOTS = 32  # per worker, when none is alive whose heartbeat would report it; the default of VM_WORKER_THREADS

# Each count is a scan of its own partial index; one pass with FILTER would read every stage of every finished run.
_FIGURES = compiled(
    Select(
        [],
        [
            Stage.select(COUNT).where(Stage.status == "queued").alias("queued"),
            Stage.select(COUNT).where(Stage.status == "running").alias("running"),
        ],
    ).bind(database)
)
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
class QueueStatus:
    """The figures of the queue.

    Attributes:
        queued: stages that wait, including those that back off until a later time or that a budget holds back.
        due: stages that could be claimed now, regardless of pauses and caps.
        oldest_due_seconds: for how long the oldest of them has been due; 0 if none is due.
        workers: workers that are alive and claim stages.
        slots: stages that they can run at a time.
        in_flight: stages that they run now.
        paused: whether an operator has paused the queue, so that no stage is claimed.
        desired_workers: number of workers that could run all work at once; stages that a person holds up do not count.
    """

    queued: int
    running: int
    due: int
    oldest_due_seconds: float
    workers: int
    slots: int
    in_flight: int
    paused: bool
    paused_at: datetime | None
    paused_by: str | None
    reason: str | None
    desired_workers: int


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


_W = WorkerHeartbeat
_WORKERS = compiled(
    _W.select(
        *(ALIVE.alias("fresh") if field.name == "fresh" else getattr(_W, field.name) for field in fields(WorkerRecord))
    ).order_by(SQL("fresh DESC"), _W.last_tick_at.desc(), _W.worker_id)
)


def read_queue() -> QueueStatus:
    """Return the figures. They come from the partial indexes of the queue, so finished runs cost nothing."""
    with transaction(durable=False):
        groups = read_worker_groups()
        figures = row(_FIGURES)
        pause = read_pauses().queue
        demand = read_demand(groups or [read_last_group()])
    assert figures is not None
    workers, slots = sum(group.workers for group in groups), sum(group.slots for group in groups)
    in_flight = sum(group.in_flight for group in groups)
    # While a person must act, a stage that a dead worker left running is not claimed again either, so it is no work.
    busy = in_flight if demand.stopped else figures["running"]
    return QueueStatus(
        **figures,
        due=demand.due,
        oldest_due_seconds=demand.oldest_due_seconds,
        workers=workers,
        slots=slots,
        in_flight=in_flight,
        paused=pause is not None,
        paused_at=pause.since if pause else None,
        paused_by=pause.by if pause else None,
        reason=pause.reason if pause else None,
        desired_workers=desired_workers(
            busy + demand.claimable, slots_each=math.ceil(slots / workers) if workers else ASSUMED_SLOTS
        ),
    )


def desired_workers(work: int, *, slots_each: int) -> int:
    """Return how many workers could run all work at once; at least one.

    Args:
        work: stages that are running, and those that more workers could claim.
        slots_each: stages that a worker runs at a time.
    """
    return max(1, math.ceil(work / slots_each))


def pause_queue(*, reason: str | None, actor: Actor) -> None:
    """Pause the queue: no stage is claimed; those in flight continue. If it is paused already, only set the reason."""
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


def resume_provider(name: str, *, actor: Actor) -> bool:
    """Resume a paused provider; return whether it was paused.

    Raises:
        NotFound: no worker has ever used a provider of that name.
    """
    with transaction():
        known = [each["name"] for each in rows(_PROVIDER_NAMES)]
        if name not in known:
            raise NotFound(f"there is no provider {name}; there are: {', '.join(known) or 'none yet'}")
        was_paused = providers.resume(name)
        if was_paused:
            record(actor, "provider.resume", f"provider:{name}")
        return was_paused


def list_workers() -> tuple[WorkerRecord, ...]:
    """Return every worker of the last 24 hours, those that are alive first."""
    with transaction(durable=False):
        found = rows(_WORKERS)
    return tuple(WorkerRecord(**each) for each in found)
