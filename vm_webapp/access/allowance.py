"""What one process lets one caller do within a minute: it takes portions of what all processes share, ahead of need.

The shared counter is ``vm_webapp.access.rate_windows``. Nothing here waits or asks: the caller takes the portions.

How much gets through within a window of the shared counter, over all processes: the limit, for that much is granted,
and what processes admitted before they took a portion. That is at most ``free`` for each of them and for each of its
own windows, of which two may lie in one of the shared counter. With ``ASSUMED_PROCESSES``, or as many as the service
has, it comes to a tenth of the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vm_webapp.access.rate_windows import WINDOW_SECONDS, Taken

REQUESTS_PER_TRIP = 20
"""How many requests there are at least for each portion that is taken."""
MOST_FREE = 25
LEAST_PORTION, MOST_PORTION = 24, 500
ASSUMED_PROCESSES = 12
RETRY_SECONDS = 2.0  # between two questions to a database that does not respond


@dataclass(frozen=True, slots=True)
class Plan:
    """How a limit is divided.

    Attributes:
        limit: what all processes together admit within a window.
        free: what a process admits before it takes its first portion, so that a caller who sends little costs the
            database nothing.
        portion: how much a process takes at a time.
        low: how much is left of a portion when the next one is taken.
        share: what a process admits within a window without the database.
    """

    limit: int
    free: int
    portion: int
    low: int
    share: int

    @classmethod
    def of(cls, limit: int, processes: int) -> Plan:
        """Divide a limit.

        Args:
            limit: requests within a window, over all processes.
            processes: how many there are.
        """
        portion = min(max(LEAST_PORTION, limit // 50), MOST_PORTION)
        return cls(
            limit=limit,
            free=min(MOST_FREE, limit // (20 * max(processes, ASSUMED_PROCESSES))),
            portion=portion,
            low=min(portion // 4, portion - REQUESTS_PER_TRIP),
            share=limit // processes,
        )


class Allowance:
    """What this process still admits of one caller within the current window. Times are monotonic seconds.

    Args:
        plan: how the limit is divided.
        now: the time.

    Attributes:
        alone: whether the database did not respond when it was asked last.
    """

    def __init__(self, plan: Plan, now: float) -> None:
        self._plan = plan
        self.alone = False
        self._retry_at = 0.0
        self._reported = 0  # how many requests the last question reported that no portion covers
        self._window: datetime | None = None  # which one of the shared counter, None while no portion was taken
        self._until = now
        self._left = self._elsewhere = 0
        self._admitted = self._uncounted = self._in_question = 0
        self._exhausted = False
        self._begin(now)

    @property
    def remaining(self) -> int:
        """How many more requests this process would admit in this window, as far as it knows."""
        return self._left + self._elsewhere

    def seconds_left(self, now: float) -> float:
        """Return in how many seconds the window ends."""
        return max(0.0, self._until - now)

    def spend(self, now: float) -> bool:
        """Admit a request; return False if a portion is needed first, or nothing is left."""
        if now >= self._until:
            self._begin(now)
        if self._left <= 0:
            return False
        self._left -= 1
        self._admitted += 1
        if self._window is None or self.alone:
            self._uncounted += 1
        return True

    def may_get_more(self, now: float) -> bool:
        """Return whether it makes sense to take a portion now."""
        return now >= self._retry_at if self.alone else not self._exhausted

    def should_take(self, now: float) -> bool:
        """Return whether to take the next portion now, while requests go on."""
        if not self.may_get_more(now):
            return False
        if self.alone:
            return True
        if self._window is None:
            return self._left <= 0 or self._uncounted >= REQUESTS_PER_TRIP
        return self._left <= self._plan.low

    def ask(self) -> int:
        """Return how much to take: a portion, and what was admitted without one. ``add`` or ``go_on_alone`` follows."""
        self._reported = self._in_question = self._uncounted
        return self._reported + self._plan.portion

    def add(self, taken: Taken, *, asked_at: float, now: float) -> None:
        """Note what was taken.

        Args:
            taken: the answer to ``ask``.
            asked_at: the time before the question: counted from it, this process's window ends no later than the
                shared one.
            now: the time.
        """
        portion = max(0, taken.granted - self._reported)
        since = self._uncounted - self._in_question  # admitted while the question was on its way
        until = asked_at + taken.seconds_left
        if until <= now:  # it took longer than the window lasted
            self._uncounted = since
            return
        if self._window not in (None, taken.began_at):
            self._admitted = 0
        # What is left over from an earlier window, or was never counted, may be used no more.
        kept = self._left if self._window == taken.began_at and not self.alone else 0
        self._left = kept + max(0, portion - since)
        self._elsewhere = taken.left
        self._exhausted = taken.granted < self._reported + self._plan.portion
        self._window, self._until = taken.began_at, until
        self._uncounted, self.alone = 0, False

    def go_on_alone(self, now: float) -> None:
        """Note that the database did not respond: this process goes on with its share of the limit."""
        self.alone, self._retry_at = True, now + RETRY_SECONDS
        self._left = max(0, self._left, self._plan.share - self._admitted)
        self._elsewhere = 0
        self._exhausted = False

    def _begin(self, now: float) -> None:
        self._window = None
        self._until = now + WINDOW_SECONDS
        self._left = self._plan.share if self.alone else self._plan.free
        self._elsewhere = 0 if self.alone else self._plan.limit - self._plan.free
        self._admitted = self._uncounted = self._in_question = 0
        self._exhausted = False
