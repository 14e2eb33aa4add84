"""A worker's row: that it lives, what it can do and what it has been doing, by the database's clock."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from vm_webapp import __version__
from vm_webapp.db.bundle import newest_bundled_id
from vm_webapp.db.pool import execute, json, row, transaction

LONGEST_GAP_SECONDS = 5  # between ticks of the fleet; after a longer one the database counts as having been away
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
class Heard:
    """What the database answers to a heartbeat.

    Attributes:
        fingerprint: tells the database from any other.
        steady_seconds: for how long ticks of any worker have reached it without a gap, by its clock. While that is
            short, a lease that ran out says nothing about its worker, who may not have been able to renew it.
    """

    fingerprint: str
    steady_seconds: float


def write_heartbeat(worker: WorkerIdentity, heartbeat: Heartbeat) -> Heard:
    """Write the worker's row."""
    with transaction(durable=False):
        fingerprint = read_fingerprint()
        written = row(
            """
            WITH steady AS (
                SELECT coalesce(min(steady_since), clock_timestamp()) AS since FROM worker_heartbeats
                 WHERE last_tick_at > clock_timestamp() - %(gap)s * interval '1 second'
            )
            INSERT INTO worker_heartbeats AS w (worker_id, host, pid, build, newest_migration, fingerprint, provider,
                   llm_cap, state, slots, in_flight, last_claim_at, last_model_outcome, last_error, counters,
                   last_tick_at, steady_since, stopped_at)
            VALUES (%(worker_id)s, %(host)s, %(pid)s, %(build)s, %(newest_migration)s, %(fingerprint)s, %(provider)s,
                   %(llm_cap)s, %(state)s, %(slots)s, %(in_flight)s, %(last_claim_at)s, %(outcome)s, %(error)s,
                   %(counters)s, clock_timestamp(), (SELECT since FROM steady),
                   CASE WHEN %(state)s = 'stopped' THEN clock_timestamp() END)
            ON CONFLICT (worker_id) DO UPDATE
               SET state = excluded.state, in_flight = excluded.in_flight, last_tick_at = clock_timestamp(),
                   steady_since = excluded.steady_since,
                   last_claim_at = coalesce(excluded.last_claim_at, w.last_claim_at),
                   last_model_outcome = coalesce(excluded.last_model_outcome, w.last_model_outcome),
                   last_error = coalesce(excluded.last_error, w.last_error),
                   counters = excluded.counters, stopped_at = excluded.stopped_at
            RETURNING extract(epoch FROM clock_timestamp() - steady_since)::float8 AS steady_seconds
            """,
            gap=LONGEST_GAP_SECONDS,
            worker_id=worker.worker_id,
            host=worker.host,
            pid=worker.pid,
            build=worker.build,
            newest_migration=worker.newest_migration,
            fingerprint=fingerprint,
            provider=worker.provider,
            llm_cap=worker.llm_cap,
            slots=worker.slots,
            state=heartbeat.state,
            in_flight=heartbeat.in_flight,
            last_claim_at=heartbeat.last_claim_at,
            outcome=json(heartbeat.last_model_outcome) if heartbeat.last_model_outcome else None,
            error=json(heartbeat.last_error) if heartbeat.last_error else None,
            counters=json(heartbeat.counters),
        )
        assert written is not None
        return Heard(fingerprint, written["steady_seconds"])


def purge_stopped_workers() -> int:
    """Delete the rows of workers that stopped, or fell silent, more than 24 hours ago; return how many."""
    with transaction(durable=False):
        return execute("DELETE FROM worker_heartbeats WHERE last_tick_at < clock_timestamp() - interval '24 hours'")


def read_fingerprint() -> str:
    """Return what tells this database from any other, inside the current transaction."""
    found = row(
        """
        SELECT i.id::text || ':' || d.oid::text AS fingerprint
          FROM installation i, pg_database d WHERE d.datname = current_database()
        """
    )
    assert found is not None
    return str(found["fingerprint"])
