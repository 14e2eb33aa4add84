"""A worker's row: that it lives, what it can do and what it has been doing, by the database's clock."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from vm_webapp import __version__
from vm_webapp.db.migrate import bundled_ids
from vm_webapp.db.pool import execute, json, row, rows, transaction

FRESH_SECONDS = 6
WorkerState = Literal["starting", "working", "draining", "stopped"]


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """What does not change while a worker lives."""

    worker_id: UUID
    provider: str
    slots: int
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    build: str = __version__
    newest_migration: str = field(default_factory=lambda: bundled_ids()[-1])


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker says each second."""

    state: WorkerState
    in_flight: int
    last_claim_at: datetime | None = None
    last_model_outcome: dict[str, Any] | None = None
    last_error: dict[str, Any] | None = None
    counters: dict[str, int] = field(default_factory=dict)


def write_heartbeat(worker: WorkerIdentity, beat: Beat) -> None:
    """Write the worker's row."""
    with transaction(durable=False):
        execute(
            """
            INSERT INTO worker_heartbeats AS w (worker_id, host, pid, build, newest_migration, fingerprint, provider,
                   state, slots, in_flight, last_claim_at, last_model_outcome, last_error, counters, stopped_at)
            VALUES (%(worker_id)s, %(host)s, %(pid)s, %(build)s, %(newest_migration)s, %(fingerprint)s, %(provider)s,
                   %(state)s, %(slots)s, %(in_flight)s, %(last_claim_at)s, %(outcome)s, %(error)s, %(counters)s,
                   CASE WHEN %(state)s = 'stopped' THEN clock_timestamp() END)
            ON CONFLICT (worker_id) DO UPDATE
               SET state = excluded.state, in_flight = excluded.in_flight, last_tick_at = clock_timestamp(),
                   last_claim_at = coalesce(excluded.last_claim_at, w.last_claim_at),
                   last_model_outcome = coalesce(excluded.last_model_outcome, w.last_model_outcome),
                   last_error = coalesce(excluded.last_error, w.last_error),
                   counters = excluded.counters, stopped_at = excluded.stopped_at
            """,
            worker_id=worker.worker_id,
            host=worker.host,
            pid=worker.pid,
            build=worker.build,
            newest_migration=worker.newest_migration,
            fingerprint=read_fingerprint(),
            provider=worker.provider,
            slots=worker.slots,
            state=beat.state,
            in_flight=beat.in_flight,
            last_claim_at=beat.last_claim_at,
            outcome=json(beat.last_model_outcome) if beat.last_model_outcome else None,
            error=json(beat.last_error) if beat.last_error else None,
            counters=json(beat.counters),
        )


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


def due_stage_ids(limit: int, *, without: list[UUID]) -> list[UUID]:
    """Return stages that are due, the oldest run of the best priority first.

    Args:
        limit: how many at most.
        without: stages that this process has in hand already.
    """
    with transaction(durable=False):
        found = rows(
            """
            SELECT id FROM stages
             WHERE status = 'queued' AND available_at <= clock_timestamp() AND id <> ALL(%(without)s::uuid[])
               AND NOT EXISTS (SELECT 1 FROM queues WHERE name = 'stages' AND paused_at IS NOT NULL)
             ORDER BY priority, run_id
             LIMIT %(limit)s
               FOR UPDATE SKIP LOCKED
            """,
            limit=limit,
            without=without,
        )
    return [stage["id"] for stage in found]
