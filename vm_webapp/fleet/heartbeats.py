"""A worker's row: that it lives, what it can do and what it has been doing, by the database's clock."""

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

LONGEST_GAP_SECONDS = 5  # between heartbeats of the fleet; after a longer one the database counts as having been away
KEEP_HOURS = 24
WorkerState = Literal["starting", "working", "draining", "stopped"]


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """What does not change while a worker lives."""

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
    """What a worker says each second."""

    state: WorkerState
    in_flight: int
    last_claim_at: datetime | None = None
    last_model_outcome: dict[str, Any] | None = None
    last_error: dict[str, Any] | None = None
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WrittenHeartbeat:
    """What the database says when a heartbeat has been written.

    Attributes:
        fingerprint: tells the database from any other.
        steady_seconds: for how long heartbeats of any worker have reached it without a gap, by its clock. While that
            is short, an expired lease says nothing about its worker, which may not have been able to renew it.
    """

    fingerprint: str
    steady_seconds: float


def _write() -> Compiled:
    row = WorkerHeartbeat
    # One clock and one statement for all workers: a worker that could write while others could not proves that the
    # database was there. ``min`` carries the oldest uninterrupted beginning on; no fresh row at all begins anew.
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
                # A heartbeat tells only what has happened since the one before.
                row.last_claim_at: fn.coalesce(EXCLUDED.last_claim_at, row.last_claim_at),
                row.last_model_outcome: fn.coalesce(EXCLUDED.last_model_outcome, row.last_model_outcome),
                row.last_error: fn.coalesce(EXCLUDED.last_error, row.last_error),
            },
        )
        .returning(fn.date_part("epoch", NOW - row.steady_since).alias("steady_seconds"))
    )


_WRITE = _write()
_PURGE = compiled(WorkerHeartbeat.delete().where(WorkerHeartbeat.last_tick_at < NOW - KEEP_HOURS * HOUR))
# The installation's id survives a restore from a dump, the database's oid does not: together they tell a copy from its
# original as well as one database of a server from another.
_FINGERPRINT = compiled(
    Installation.select(fn.CONCAT(Installation.id, ":", SQL("pg_database.oid")).alias("fingerprint"))
    .from_(Installation, SQL("pg_database"))
    .where(SQL("pg_database.datname = current_database()"))
)


def write_heartbeat(worker: WorkerIdentity, heartbeat: Heartbeat) -> WrittenHeartbeat:
    """Write the worker's row."""
    outcome, error = heartbeat.last_model_outcome, heartbeat.last_error
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
    """Return what tells this database from any other, inside the current transaction."""
    return str(rows(_FINGERPRINT)[0]["fingerprint"])
