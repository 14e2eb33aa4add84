"""A worker's heartbeat row: its identity, state and recent activity, with times by the database's clock."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from peewee import EXCLUDED, SQL, Case, Select, fn

from vm_webapp import __version__
from vm_webapp.db.bundle import newest_bundled_id
from vm_webapp.db.compiled import HOUR, NOW, SECOND, Compiled, compiled, delete_from, param
from vm_webapp.db.models import WorkerHeartbeat
from vm_webapp.db.pool import autocommit, execute, jsonb, row, transaction
from vm_webapp.errors import VMError
from vm_webapp.fleet.installation import FINGERPRINT_QUERY, note_fingerprint

# If no worker at all has written a heartbeat for longer than this, the database was probably unreachable.
LONGEST_GAP_SECONDS = 5
KEEP_HOURS = 24
# A smaller step back delays everything by less than a second, and a heartbeat is sent only once a second.
NOTICED_STEP_SECONDS = 1
WorkerState = Literal["starting", "working", "draining", "stopped"]


class ClockSteppedBack(VMError):
    """The database's clock has stepped back since the newest heartbeat."""


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """What does not change during the life of a worker process.

    Attributes:
        provider: name of the model provider that it calls.
        slots: stages that it runs at a time.
        llm_cap: the largest number of concurrent calls of the provider over all workers, None for no limit.
        newest_migration: the newest migration that its build contains.
    """

    worker_id: UUID
    provider: str
    slots: int
    llm_cap: int | None = None
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    build: str = __version__
    newest_migration: str = field(default_factory=newest_bundled_id)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker reports each second.

    Attributes:
        in_flight: stages that it runs now.
        last_claim_at: its newest claim; None if there was none since the heartbeat before.
        last_model_outcome: how its newest model call ended, as JSON; None likewise.
        last_error: its loop's newest error, as JSON; None likewise.
        counters: totals since it started, by name.
    """

    state: WorkerState
    in_flight: int
    last_claim_at: datetime | None = None
    last_model_outcome: dict[str, Any] | None = None
    last_error: dict[str, Any] | None = None
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WrittenHeartbeat:
    """What the database returns for a heartbeat.

    Attributes:
        fingerprint: identifies the database; an API compares it with its own to find workers on another one.
        steady_seconds: the time since the last gap in the fleet's heartbeats, by the database's clock. While it is
            short, an expired lease may only mean that its worker could not reach the database.
    """

    fingerprint: str
    steady_seconds: float


def _compile_write() -> Compiled:
    table = WorkerHeartbeat
    # Each fresh row carries the beginning of the present time without a gap: the oldest is inherited, and without a
    # fresh row a new time begins. One clock for all workers, since any of them proves that the database can be reached.
    # Never later than now, or nobody would rescue until then; ``least`` ignores the NULL of no fresh row.
    steady_since = fn.least(
        table.select(fn.min(table.steady_since)).where(table.last_tick_at > NOW - LONGEST_GAP_SECONDS * SECOND), NOW
    )
    identity = [field.name for field in fields(WorkerIdentity)]
    values = {
        **{getattr(table, name): param(name) for name in identity},
        table.fingerprint: FINGERPRINT_QUERY,
        table.state: param("state"),
        table.in_flight: param("in_flight"),
        table.last_claim_at: param("last_claim_at"),
        table.last_model_outcome: param("last_model_outcome"),
        table.last_error: param("last_error"),
        table.counters: param("counters"),
        table.last_tick_at: NOW,
        table.steady_since: steady_since,
        table.stopped_at: Case(None, [(param("state") == "stopped", NOW)]),
    }
    newest = table.select(fn.max(table.last_tick_at))
    clock_is_ahead = fn.coalesce(newest <= NOW + NOTICED_STEP_SECONDS * SECOND, SQL("true"))
    return compiled(
        table.insert_from(Select(columns=list(values.values())).where(clock_is_ahead), list(values))
        .on_conflict(
            conflict_target=[table.worker_id],
            # Peewee's word for the columns that take the new value. The worker's identity stays as it was.
            preserve=[table.state, table.in_flight, table.steady_since, table.counters, table.stopped_at],
            update={
                table.last_tick_at: NOW,
                # None where nothing new has happened: what an earlier heartbeat reported is kept. Counters are totals.
                table.last_claim_at: fn.coalesce(EXCLUDED.last_claim_at, table.last_claim_at),
                table.last_model_outcome: fn.coalesce(EXCLUDED.last_model_outcome, table.last_model_outcome),
                table.last_error: fn.coalesce(EXCLUDED.last_error, table.last_error),
            },
        )
        .returning(table.fingerprint, fn.date_part("epoch", NOW - table.steady_since).alias("steady_seconds"))
    )


_WRITE = _compile_write()
_WRITE_WORKSPACE = compiled(
    WorkerHeartbeat.update({WorkerHeartbeat.workspace: param("workspace")}).where(
        WorkerHeartbeat.worker_id == param("worker_id")
    )
)
_PURGE = compiled(delete_from(WorkerHeartbeat).where(WorkerHeartbeat.last_tick_at < NOW - KEEP_HOURS * HOUR))


def write_heartbeat(worker: WorkerIdentity, heartbeat: Heartbeat) -> WrittenHeartbeat:
    """Write the worker's row.

    Raises:
        ClockSteppedBack: the newest heartbeat is ahead of the database's clock; nothing was written, which would hide
            by how much.
    """
    outcome, error = heartbeat.last_model_outcome, heartbeat.last_error
    # Not durable: a heartbeat that a crash loses is replaced a second later, and a worker that has stopped is silent.
    with autocommit(durable=False):
        written = row(
            _WRITE,
            **{field.name: getattr(worker, field.name) for field in fields(worker)},
            state=heartbeat.state,
            in_flight=heartbeat.in_flight,
            last_claim_at=heartbeat.last_claim_at,
            last_model_outcome=jsonb(outcome) if outcome else None,
            last_error=jsonb(error) if error else None,
            counters=jsonb(heartbeat.counters),
        )
    if written is None:
        raise ClockSteppedBack("the database's clock has stepped back")
    return WrittenHeartbeat(note_fingerprint(written["fingerprint"]), written["steady_seconds"])


def write_workspace(worker_id: UUID, facts: dict[str, Any]) -> None:
    """Write into the worker's row what it knows of its workspace folder.

    Apart from the heartbeat, which a worker also writes while the schema still lacks what this build has.

    Args:
        worker_id: the worker.
        facts: JSON values: ``folder``, ``status`` and ``free_bytes``.
    """
    with transaction(durable=False):
        execute(_WRITE_WORKSPACE, worker_id=worker_id, workspace=jsonb(facts))


def purge_stopped_workers() -> int:
    """Delete the rows of workers whose last heartbeat is more than 24 hours old; return how many."""
    with transaction(durable=False):
        return execute(_PURGE)
