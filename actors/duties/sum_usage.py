"""Adds what model calls have used to the usage of their day."""

from __future__ import annotations

from vm_webapp.execution.activity import Activity
from vm_webapp.usage import summing

IDLE_ROUNDS = 6


class SumUsage:
    """Sums the calls that have ended, those of other workers as well.

    Args:
        activity: shows whether this worker has worked. One that is idle looks in every sixth round only, for what a
            worker has left that stopped.
    """

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._claimed = 0
        self._idle_rounds = 0

    def run_once(self) -> bool:
        """Sum a batch.

        Returns:
            Whether more may be left.

        Raises:
            DatabaseUnavailable: nothing was summed.
        """
        claimed = self._activity.counters.get("claimed", 0)
        self._idle_rounds += 1
        if claimed == self._claimed and self._idle_rounds < IDLE_ROUNDS:
            return False
        more = summing.sum_ended_calls() == summing.BATCH
        self._claimed, self._idle_rounds = claimed, 0
        return more
