"""The decision on the number of workers, as the database has it for everybody: the view ``autoscale_signal``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vm_webapp.db.pool import row
from vm_webapp.db.prepared import Prepared

FRESH_SECONDS = 30
"""How old a decision may be; the view gives the number without one then."""

_READ = Prepared("SELECT * FROM autoscale_signal")


@dataclass(frozen=True, slots=True)
class Signal:
    """The queue, the fleet and the number of workers that there should be.

    Attributes:
        queued: stages that wait, including those that back off until a later time or that a budget holds back.
        due: stages that could be claimed now, regardless of pauses and caps.
        running: stages that a worker has claimed and not ended.
        oldest_due_seconds: for how long the oldest of the due stages has been due; 0 if none is.
        arrivals_per_minute: stages that became due, as a mean of the last minute; None without a fresh decision.
        completions_per_minute: attempts that ended, likewise.
        workers: workers that are alive and claim stages.
        slots: stages that they can run at a time, together.
        in_flight: stages that they run now.
        draining: workers that finish what they have and then stop.
        mean_stage_seconds: how long an attempt runs; None while none has ended, or without a fresh decision.
        desired_workers: how many workers there should be.
        reason: why, in a sentence.
        decided_at: when the latest decision was made; None if there has been none.
        stale: whether that is more than 30 seconds ago. ``desired_workers`` is then as many workers as could run all
            work at once, within the limits.
        min_workers: fewest workers, as the latest decision kept to.
        max_workers: most workers, likewise.
        target_wait_seconds: for how long no stage should be due, likewise.
    """

    queued: int
    due: int
    running: int
    oldest_due_seconds: float
    arrivals_per_minute: float | None
    completions_per_minute: float | None
    workers: int
    slots: int
    in_flight: int
    draining: int
    mean_stage_seconds: float | None
    desired_workers: int
    reason: str
    decided_at: datetime | None
    stale: bool
    min_workers: int
    max_workers: int
    target_wait_seconds: float


def read_signal() -> Signal:
    """Return what the view says, inside the current transaction. Finished runs cost nothing."""
    found = row(_READ)
    assert found is not None
    return Signal(**found)
