"""How many workers there should be: a pure decision from the queue's figures, limits and earlier decisions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from vm_webapp.ops.autoscale.needs import Need, floor_of, need_of, one_more, sane
from vm_webapp.ops.autoscale.shapes import Decision, Figures, Limits
from vm_webapp.text import plural

PAST_SECONDS = 600.0
"""How far back decisions matter to the next one."""
IN_AFTER_SECONDS = 300.0
"""For how long fewer workers must have been enough before one goes."""
STEP_SECONDS = 60.0
"""How long the number stays before one more worker goes, or one more comes because stages are late all the same."""
MOST_START_SECONDS = 120.0
"""Workers that were asked for longer ago than this are not waited for any longer."""


def decide(figures: Figures, limits: Limits, past: Sequence[Decision], now: float) -> Decision:
    """Return how many workers there should be.

    1. The work needs enough slots for what arrives, and enough that all stages that wait are claimed in the time that
       the oldest one has left of half the target; the other half is for workers to start. While workers that were
       asked for have not come, the time grows with the delay, so that the stages of the meantime are no reason for
       still more workers. No more slots are needed than there are stages that pauses, caps and limits let workers
       claim.
    2. If stages are late all the same, the slots are in use and no worker is on its way, one more worker is needed,
       once a minute.
    3. The number is at least the minimum, on top of the workers that the stages in flight fill, unless pauses, caps or
       limits leave no use for it. It is at most the maximum, and grows to no more than the database has connections
       for.
    4. A higher number counts at once. A lower one takes away one worker, once a minute, when fewer were enough in
       every decision of five minutes.

    Args:
        figures: the queue and the fleet now. A figure that makes no sense counts as 0, or as unknown.
        limits: what the number keeps to.
        past: earlier decisions, in any order, at least those of the last ``PAST_SECONDS``. Without any, the number
            falls from the workers that are there.
        now: seconds, by the clock of the past decisions.
    """
    known = sane(figures)
    history = _History.of(past, now)
    last = history.last if history else _within(known.workers + known.starting, limits)
    need = max(_need(known, limits, history, now), floor_of(known, limits.min_workers), key=lambda one: one.workers)
    most = limits.max_workers
    if known.most_workers is not None:
        most = min(most, max(known.most_workers, known.workers))
    needed = _within(min(need.workers, most), limits)
    falls = needed < last and history is not None and history.lets_one_go(now)
    desired = _within(max(needed, min(last - 1 if falls else last, most)), limits)
    return Decision(now, desired, needed, _reason(need, needed, desired, limits, most))


@dataclass(frozen=True, slots=True)
class _History:
    """Earlier decisions, oldest first; at least one."""

    decisions: tuple[Decision, ...]

    @classmethod
    def of(cls, past: Sequence[Decision], now: float) -> _History | None:
        """Return what still matters of the past. A decision of the future counts as one of now: the clock stepped."""
        usable = [one if one.at <= now else replace(one, at=now) for one in past if one.at >= now - PAST_SECONDS]
        return cls(tuple(sorted(usable, key=lambda one: (one.at, one.desired, one.needed)))) if usable else None

    @property
    def last(self) -> int:
        """The number that counts now."""
        return self.decisions[-1].desired

    def unchanged_seconds(self, now: float) -> float:
        """For how long the number has been what it is, as far as is known."""
        return now - self._begin(lambda one: one.desired == self.last)

    def missing_seconds(self, workers: int, now: float) -> float:
        """For how long more workers have been asked for than there are; 0 if there are as many."""
        return now - self._begin(lambda one: one.desired > workers) if workers < self.last else 0.0

    def lets_one_go(self, now: float) -> bool:
        """Whether fewer workers have been enough for long, and the number has not changed lately."""
        since = now - IN_AFTER_SECONDS
        return (
            self.decisions[0].at <= since
            and all(one.needed < self.last for one in self.decisions if one.at >= since)
            and self.unchanged_seconds(now) >= STEP_SECONDS
        )

    def _begin(self, holds: Callable[[Decision], bool]) -> float:
        """Return when the decisions began of which this holds up to the last."""
        return min(one.at for one in takewhile(holds, reversed(self.decisions)))


def _need(figures: Figures, limits: Limits, history: _History | None, now: float) -> Need:
    target = max(limits.target_wait_seconds, 0.0) if math.isfinite(limits.target_wait_seconds) else 0.0
    missing = history.missing_seconds(figures.workers, now) if history else 0.0
    left = max(target / 2 - figures.oldest_due_seconds, target / 6)
    need = need_of(figures, within_seconds=left + min(missing, MOST_START_SECONDS))
    late = figures.oldest_due_seconds > target and 2 * figures.in_flight >= figures.slots
    if late and history and not missing and history.unchanged_seconds(now) >= STEP_SECONDS:
        return max(need, one_more(figures), key=lambda one: one.workers)
    return need


def _within(workers: int, limits: Limits) -> int:
    return max(limits.min_workers, min(workers, limits.max_workers))


def _reason(need: Need, needed: int, desired: int, limits: Limits, most: int) -> str:
    """Return a sentence that says why, with its figures."""
    words = f"{plural(desired, 'worker')}: {need.why}"
    if need.workers > most:
        what = "the maximum" if most == limits.max_workers else "what the database has connections for"
        words += f"; that needs {need.workers}, and {most} is {what}"
    elif desired > needed:
        words += f"; {needed} would be enough: one is removed at a time once that lasts for {IN_AFTER_SECONDS:.0f} s"
    elif desired == limits.min_workers and need.workers < desired:
        words += "; this is the minimum"
    return words
