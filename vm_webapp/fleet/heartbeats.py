"""A worker's heartbeat row: its identity, state and recent activity, with times by the database's clock."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from peewee import EXCLUDED, SQL, Case, fn

from vm_webapp import __version__
from vm_webapp.db.bundle import newest_bundled_id
from vm_webapp.db.compiled import HOUR, NOW, SECOND, Compiled, compiled, param
from vm_webapp.db.models import Installation, WorkerHeartbeat
from vm_webapp.db.pool import execute, jsonb, row, rows, transaction

# After a longer gap between heartbeats of the whole fleet, the database counts as having been unreachable.
LONGEST_GAP_SECONDS = 5
KEEP_HOURS = 24
WorkerState = Literal["starting", "working", "draining", "stopped"]


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """What does not change during the life of a worker process."""

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
    """What a worker reports each second."""

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
        fingerprint: identifies the database.
        steady_seconds: for how long heartbeats of any worker have reached the database without a gap, by its clock.
            While that is short, an expired lease does not prove that its worker died: it may have been unable to renew.
    """

    fingerprint: str
    steady_seconds: float


def _write() -> Compiled:
    row = WorkerHeartbeat
    # One clock for all workers: a worker that could write while others could not proves that the database was
    # reachable. ``min`` passes on the oldest start; without any fresh row the steady time begins anew.
    steady_since = fn.coalesce(
        row.select(fn.min(row.steady_since)).where(row.last_tick_at > NOW - LONGEST_GAP_SECONDS * SECOND), NOW
    )
    identity = [field.name for field in fields(WorkerIdentity)]
    return compiled(
        row.insert(
            {
                **{getattr(row, name): param(name) for name in identity},
                row.fingerprint: param("fingerprint"),
                row.state: param("state"),
                row.in_flight: param("in_flight"),
                row.last_claim_at: param("last_claim_at"),
                row.last_model_outcome: param("last_model_outcome"),
                row.last_error: param("last_error"),
                row.counters: param("counters"),
                row.last_tick_at: NOW,
                row.steady_since: steady_since,
                row.stopped_at: Case(None, [(param("state") == "stopped", NOW)]),
            }
        )
        .on_conflict(
            conflict_target=[row.worker_id],
            preserve=[row.state, row.in_flight, row.steady_since, row.counters, row.stopped_at],
            update={
                row.last_tick_at: NOW,
                # A heartbeat contains only what has happened since the one before; keep what earlier ones reported.
                row.last_claim_at: fn.coalesce(EXCLUDED.last_claim_at, row.last_claim_at),
                row.last_model_outcome: fn.coalesce(EXCLUDED.last_model_outcome, row.last_model_outcome),
                row.last_error: fn.coalesce(EXCLUDED.last_error, row.last_error),
            },
        )
        .returning(fn.date_part("epoch", NOW - row.steady_since).alias("steady_seconds"))
    )


_WRITE = _write()
_PURGE = compiled(WorkerHeartbeat.delete().where(WorkerHeartbeat.last_tick_at < NOW - KEEP_HOURS * HOUR))
# A copy restored from a dump has the installation id of its original, but as a rule another oid; databases of different
# servers may have the same oid, but not the same id. Together they identify a database.
_FINGERPRINT = compiled(
    Installation.select(fn.CONCAT(Installation.id, ":", SQL("pg_database.oid")).alias("fingerprint"))
    .from_(Installation, SQL("pg_database"))
    .where(SQL("pg_database.datname = current_database()"))
)


def write_heartbeat(worker: WorkerIdentity, heartbeat: Heartbeat) -> WrittenHeartbeat:
    """Write the worker's row."""
    outcome, error = heartbeat.last_model_outcome, heartbeat.last_error
    # Not durable: a heartbeat that a crash loses is replaced a second later.
    with transaction(durable=False):
        fingerprint = read_fingerprint()
        written = row(
            _WRITE,
            **{field.name: getattr(worker, field.name) for field in fields(worker)},
            fingerprint=fingerprint,
            state=heartbeat.state,
            in_flight=heartbeat.in_flight,
            last_claim_at=heartbeat.last_claim_at,
            last_model_outcome=jsonb(outcome) if outcome else None,
            last_error=jsonb(error) if error else None,
            counters=jsonb(heartbeat.counters),
        )
        assert written is not None
        return WrittenHeartbeat(fingerprint, written["steady_seconds"])


def purge_stopped_workers() -> int:
    """Delete the rows of workers whose last heartbeat is more than 24 hours old; return how many."""
    with transaction(durable=False):
        return execute(_PURGE)


def read_fingerprint() -> str:
    """Return what identifies this database, inside the current transaction."""
    return str(rows(_FINGERPRINT)[0]["fingerprint"])
