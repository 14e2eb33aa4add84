"""Follows a step back of the database's clock: times that were stored before it are moved back by as much.

A clock steps back when a failover ends on a standby whose clock differs, or when a wrong one is set right. Whatever was
due in a minute would otherwise be due only when the clock has caught up. A step forward needs nothing of this: it is
harmless that something is due early, and the gap in the heartbeats protects the leases of living workers.
"""

from __future__ import annotations

from typing import Any

from peewee import fn

from vm_webapp.db.compiled import NO_KEY_UPDATE, NOW, SECOND, Compiled, compiled, param
from vm_webapp.db.models import Provider, Stage, WorkerHeartbeat
from vm_webapp.db.pool import execute, row, transaction
from vm_webapp.fleet.heartbeats import NOTICED_STEP_SECONDS
from vm_webapp.runs.states import LEASE_SECONDS

LOCK = 0x636C6F636B  # "clock" in ASCII: the key of an advisory lock

_BACK = param("seconds") * SECOND


def _unlocked(table: Any, key: Any, *conditions: Any) -> Any:
    """Return the condition for rows that no other transaction has locked: it is about to give them new times."""
    return key.in_(table.select(key).where(*conditions).for_update(NO_KEY_UPDATE, skip_locked=True))


def _moved_columns(*columns: Any) -> dict[Any, Any]:
    return {column: column - _BACK for column in columns}


# Heartbeats tell by how much: one was written each second, so the newest is from just before the step.
_READ_SECONDS = compiled(
    WorkerHeartbeat.select(fn.date_part("epoch", fn.max(WorkerHeartbeat.last_tick_at) - NOW).alias("ahead"))
)
# All rows alike, so that workers that are alive, dead or stopped stay so.
_W = WorkerHeartbeat
_MOVE_HEARTBEATS = compiled(
    _W.update(_moved_columns(_W.started_at, _W.last_tick_at, _W.steady_since, _W.last_claim_at, _W.stopped_at))
)
_MOVE_QUEUED = compiled(
    Stage.update({Stage.available_at: fn.greatest(NOW, Stage.available_at - _BACK)}).where(
        _unlocked(Stage, Stage.id, Stage.status == "queued", Stage.available_at > NOW)
    )
)
# A lease is cut and not moved, because its worker may have renewed it since the step. A deadline that was set since is
# moved in vain: the next renewal sets it to what the worker knows.
_MOVE_RUNNING = compiled(
    Stage.update(
        {
            Stage.lease_expires_at: fn.least(Stage.lease_expires_at, NOW + LEASE_SECONDS * SECOND),
            **_moved_columns(Stage.deadline_at),
        }
    ).where(_unlocked(Stage, Stage.id, Stage.status == "running"))
)
_MOVE_PAUSES = compiled(
    Provider.update({Provider.paused_until: fn.greatest(NOW, Provider.paused_until - _BACK)}).where(
        _unlocked(Provider, Provider.name, Provider.paused_until > NOW)
    )
)
_MOVES: tuple[Compiled, ...] = (_MOVE_HEARTBEATS, _MOVE_QUEUED, _MOVE_RUNNING, _MOVE_PAUSES)


def follow_clock_back() -> float:
    """Move the times that are stored if the database's clock has stepped back since the newest heartbeat.

    Called when a worker could not write its heartbeat, which would hide the step.

    Returns:
        By how many seconds; 0 where it has not.

    Raises:
        DatabaseUnavailable: nothing was moved.
    """
    # Not durable: a crash that undoes the move undoes the heartbeats after it as well, and the next one moves again.
    with transaction(durable=False):
        if _seconds_back() == 0:
            return 0.0
        # Of several workers that notice the step, one moves the times; the others then find nothing to move.
        execute("SELECT pg_advisory_xact_lock(%(lock)s)", lock=LOCK)
        seconds = _seconds_back()
        if seconds:
            for move in _MOVES:
                execute(move, seconds=seconds)
        return seconds


def _seconds_back() -> float:
    found = row(_READ_SECONDS)
    ahead = (found["ahead"] if found else None) or 0.0
    return float(ahead) if ahead > NOTICED_STEP_SECONDS else 0.0
