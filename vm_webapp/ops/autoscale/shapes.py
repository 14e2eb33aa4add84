"""What a decision on the number of workers is made from, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from vm_webapp.settings import Settings


@dataclass(frozen=True, slots=True)
class Figures:
    """The queue and the fleet at one moment.

    Attributes:
        queued: stages that wait, including those that back off until a later time or that a budget holds back.
        due: stages that could be claimed now, regardless of pauses and caps.
        running: stages that a worker has claimed and not ended.
        oldest_due_seconds: for how long the oldest of the due stages has been due; 0 if none is.
        claimable: due stages that pauses, the cap on model calls and the limits of brands would let more workers claim.
        stopped: whether a person must act before stages that need a model, or any, are claimed again.
        arrivals_per_minute: stages that became due, as a mean of the last minute.
        completions_per_minute: attempts that ended, as a mean of the last minute.
        mean_stage_seconds: how long an attempt runs; None while none has ended.
        workers: workers that are alive and claim stages.
        starting: workers that are alive and claim no stage yet.
        draining: workers that finish what they have and then stop.
        slots: stages that ``workers`` can run at a time, together.
        in_flight: stages that ``workers`` run now.
        slots_each: stages that a worker runs at a time.
        most_calls: most model calls in flight across all workers; None for no limit.
        most_workers: how many workers the database has connections for; None if unknown.
    """

    queued: int
    due: int
    running: int
    oldest_due_seconds: float
    claimable: int
    stopped: bool
    arrivals_per_minute: float
    completions_per_minute: float
    mean_stage_seconds: float | None
    workers: int
    starting: int
    draining: int
    slots: int
    in_flight: int
    slots_each: int
    most_calls: int | None = None
    most_workers: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decision keeps to.

    Attributes:
        min_workers: fewest workers.
        max_workers: most workers, at least ``min_workers``.
        target_wait_seconds: no stage should be due for longer.
    """

    min_workers: int
    max_workers: int
    target_wait_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits of these settings."""
        return cls(settings.autoscale_min, settings.autoscale_max, settings.autoscale_target_wait_seconds)


@dataclass(frozen=True, slots=True)
class Decision:
    """A number of workers.

    Attributes:
        at: when it was decided, in seconds of any clock that the caller keeps to.
        desired: how many workers there should be.
        needed: how many the figures ask for, before the number falls slowly.
        reason: a sentence that says why.
    """

    at: float
    desired: int
    needed: int
    reason: str
