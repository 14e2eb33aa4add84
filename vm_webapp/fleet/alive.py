"""Which workers are alive, as conditions on the rows of ``worker_heartbeats`` by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peewee import SQL, fn

from vm_webapp.db.compiled import COUNT, compiled
from vm_webapp.db.models import WorkerHeartbeat
from vm_webapp.db.pool import row, rows
from vm_webapp.db.prepared import prepared

# Six ticks of one second: a worker that misses a few on a busy machine still counts as alive.
FRESH_SECONDS = 6

# Not a time ahead of the clock, which has then stepped back: a dead worker would count as alive until it catches up.
_STEP = f"interval '{FRESH_SECONDS} s'"
_FRESH = f"last_tick_at BETWEEN clock_timestamp() - {_STEP} AND clock_timestamp() + {_STEP}"
IS_ALIVE = f"(state <> 'stopped' AND {_FRESH})"
"""SQL: whether a worker is alive, by its row of ``worker_heartbeats``."""
_WORKING = f"(state = 'working' AND {_FRESH})"
ALIVE: Any = SQL(IS_ALIVE)
WORKING: Any = SQL(_WORKING)

WORKERS_BY_CLAIMS = f"""
    SELECT provider, llm_cap AS cap, count(*)::int AS alive, (count(*) FILTER (WHERE {_WORKING}))::int AS working
      FROM worker_heartbeats WHERE {IS_ALIVE} GROUP BY provider, llm_cap
"""
"""SQL: how many workers are ``alive``, and how many of them are ``working``, of each ``provider`` and ``cap``."""

_GROUPS = prepared(
    WorkerHeartbeat.select(
        WorkerHeartbeat.provider,
        WorkerHeartbeat.llm_cap.alias("cap"),
        COUNT.alias("workers"),
        fn.sum(WorkerHeartbeat.slots).alias("slots"),
        fn.sum(WorkerHeartbeat.in_flight).alias("in_flight"),
    )
    .where(WORKING)
    .group_by(WorkerHeartbeat.provider, WorkerHeartbeat.llm_cap)
    .order_by(WorkerHeartbeat.provider, WorkerHeartbeat.llm_cap)
)
_LAST = compiled(
    WorkerHeartbeat.select(WorkerHeartbeat.provider, WorkerHeartbeat.llm_cap.alias("cap"))
    .order_by(WorkerHeartbeat.last_tick_at.desc(), WorkerHeartbeat.worker_id)
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """The workers that are alive, claim stages, and call the same provider under the same cap.

    Attributes:
        provider: name of the provider that they call.
        cap: most calls of that provider in flight across all workers, None for no limit.
        workers: number of workers.
        slots: stages that they run at a time, together.
        in_flight: stages that they run now.
    """

    provider: str
    cap: int | None
    workers: int
    slots: int
    in_flight: int


NO_WORKERS = WorkerGroup("", None, 0, 0, 0)
"""The group of a database that no worker has used."""


def read_worker_groups() -> tuple[WorkerGroup, ...]:
    """Return the groups of the working fleet, inside the current transaction."""
    # As a rule there is one; a deploy that changes the provider or the cap makes two until it ends.
    return tuple(WorkerGroup(**found) for found in rows(_GROUPS))


def read_last_group() -> WorkerGroup:
    """Return an empty group with the provider and cap of the newest heartbeat: the next worker likely has them."""
    found = row(_LAST)
    return WorkerGroup(found["provider"], found["cap"], 0, 0, 0) if found else NO_WORKERS
