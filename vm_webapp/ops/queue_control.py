"""The queue as operators see it, and what stops and restarts claiming."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from vm_webapp.db.pool import execute, row, rows, transaction
from vm_webapp.errors import NotFound
from vm_webapp.fleet.alive import ALIVE, last_crew, read_crews
from vm_webapp.runs import providers
from vm_webapp.runs.admission import due, read_demand
from vm_webapp.runs.pauses import read_pauses

ASSUMED_SLOTS = 32  # of a worker, where none lives that could be asked


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The queue in a few figures.

    Attributes:
        queued: stages that wait, those whose time has not come included.
        due: stages that could be taken now, pauses and caps aside.
        oldest_due_seconds: for how long the oldest of them has been due; 0 where none is.
        workers: workers that are alive and take work.
        slots: stages that they carry at a time.
        in_flight: stages that they carry now.
        paused: whether nothing is claimed.
        desired_workers: how many workers would carry everything at once; what waits for a person counts for nothing.
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
    """A worker's heartbeat row. ``fresh`` tells whether it was heard of within the last seconds."""

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


def read_queue() -> QueueStatus:
    """Return the figures, from the partial indexes of the queue: history costs nothing."""
    with transaction(durable=False):
        crews = read_crews()
        figures = row(
            f"""
            SELECT (SELECT count(*) FROM stages WHERE status = 'queued') AS queued,
                   (SELECT count(*) FROM stages WHERE status = 'running') AS running,
                   due.n AS due, coalesce(due.seconds, 0)::float8 AS oldest_due_seconds
              FROM (SELECT count(*) AS n, extract(epoch FROM clock_timestamp() - min(available_at)) AS seconds
                      FROM stages WHERE {due()}) due
            """
        )
        pause = read_pauses().queue
        demand = read_demand(crews or [last_crew()])
    assert figures is not None
    workers, slots = sum(crew.workers for crew in crews), sum(crew.slots for crew in crews)
    in_flight = sum(crew.in_flight for crew in crews)
    # What a dead worker left as running is not claimed again either, while a person must act.
    busy = in_flight if demand.stopped else figures["running"]
    return QueueStatus(
        **figures,
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
    """Decide how many workers would carry everything at once; never none.

    Args:
        work: stages that are running, and those that more workers could claim.
        slots_each: stages that a worker carries at a time.
    """
    return max(1, math.ceil(work / slots_each))


def pause_queue(*, reason: str | None, actor: str) -> None:
    """Stop claiming. Stages in flight go on; a queue that is paused stays so, but for a new reason and whose it is."""
    with transaction():
        execute(
            """
            UPDATE queues SET paused_at = coalesce(paused_at, clock_timestamp()),
                              paused_by = CASE WHEN paused_at IS NULL OR %(reason)s IS NOT NULL
                                               THEN %(actor)s ELSE paused_by END,
                              reason = coalesce(%(reason)s, reason)
             WHERE name = 'stages'
            """,
            actor=actor,
            reason=reason,
        )


def resume_queue() -> bool:
    """Claim again; return whether the queue was paused. Idle workers find the work when they next poll."""
    with transaction():
        return bool(
            execute(
                "UPDATE queues SET paused_at = NULL, paused_by = NULL, reason = NULL"
                " WHERE name = 'stages' AND paused_at IS NOT NULL"
            )
        )


def resume_provider(name: str) -> bool:
    """Open a paused provider; return whether it was paused.

    Raises:
        NotFound: no worker has ever used a provider of that name.
    """
    with transaction():
        known = [each["name"] for each in rows("SELECT name FROM providers ORDER BY name")]
        if name not in known:
            raise NotFound(f"there is no provider {name}; there are: {', '.join(known) or 'none yet'}")
        return providers.resume(name)


def list_workers() -> tuple[WorkerRecord, ...]:
    """Return every worker of the last 24 hours, those that are alive first."""
    with transaction(durable=False):
        found = rows(
            f"""
            SELECT worker_id, host, pid, build, newest_migration, provider, state, slots, in_flight, started_at,
                   last_tick_at, last_claim_at, last_model_outcome, last_error, counters, stopped_at, {ALIVE} AS fresh
              FROM worker_heartbeats ORDER BY fresh DESC, last_tick_at DESC, worker_id
            """
        )
    return tuple(WorkerRecord(**each) for each in found)
