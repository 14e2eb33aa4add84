"""The queue's figures of the last hours, as the deciding process keeps them, and how long it is known who scaled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vm_webapp.db.pool import autocommit, execute, rows, transaction

KEEP_HOURS = 24
KEEP_SCALE_CALLS_DAYS = 7
# The greatest figure of each step: a short peak must not disappear in a mean.
_READ = """
    SELECT date_bin(%(step)s * interval '1 s', at, 'epoch') AS at, max(oldest_due_seconds) AS oldest_due_seconds,
           max(due) AS due, max(workers) AS workers, max(desired_workers) AS desired_workers
      FROM queue_history WHERE at > clock_timestamp() - %(hours)s * interval '1 h' GROUP BY 1 ORDER BY 1
"""
_PURGE = f"DELETE FROM queue_history WHERE at < clock_timestamp() - interval '{KEEP_HOURS} hours'"
_PURGE_SCALE_CALLS = f"""
    DELETE FROM scale_calls WHERE at < clock_timestamp() - interval '{KEEP_SCALE_CALLS_DAYS} days'
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """The greatest figures of one step of time.

    Attributes:
        at: when the step began.
        oldest_due_seconds: for how long the oldest due stage had been due.
        due: stages that waited for a worker.
        workers: workers that took work.
        desired_workers: how many there should have been.
    """

    at: datetime
    oldest_due_seconds: float
    due: int
    workers: int
    desired_workers: int


def read_queue_history(*, hours: int, step_seconds: int) -> tuple[Moment, ...]:
    """Return the figures of the last hours, oldest first; steps for which nobody has kept any are missing.

    Args:
        hours: how many; a day is kept.
        step_seconds: the length of a step.
    """
    with autocommit():
        found = rows(_READ, hours=hours, step=step_seconds)
    return tuple(Moment(**each) for each in found)


def purge_old_history() -> int:
    """Delete the figures of more than 24 hours ago; return how many."""
    with transaction(durable=False):
        return execute(_PURGE)


def purge_old_scale_calls() -> int:
    """Delete the calls of more than seven days ago that changed the number of workers; return how many."""
    with transaction(durable=False):
        return execute(_PURGE_SCALE_CALLS)
