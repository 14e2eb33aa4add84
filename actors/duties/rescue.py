"""Takes back the stages that other workers have lost."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from vm_webapp.execution.activity import Activity
from vm_webapp.runs.lifecycle import rescue_expired_leases

log = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
LONGEST_SECONDS = 0.5  # at a time: the leases of this worker must be renewed in time, too


@dataclass(frozen=True, slots=True)
class RescueCounts:
    """What was done with the stages whose lease had ended.

    Attributes:
        queued: due again.
        failed: given up, because too many workers had lost them.
        more: whether the time was over before all were seen to.
    """

    queued: int = 0
    failed: int = 0
    more: bool = False


class Rescue:
    """Rescues every two seconds, or sooner where something was left.

    Args:
        activity: where rescued stages are counted.
    """

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        """Whether it is time, by the monotonic clock."""
        return now >= self._next

    def run_once(self, now: float) -> RescueCounts:
        """Rescue batch after batch for at most half a second.

        Args:
            now: the monotonic time.

        Raises:
            DatabaseUnavailable: the last batch was not done.
        """
        self._next = now + EVERY_SECONDS
        until = time.monotonic() + LONGEST_SECONDS
        queued, failed, more = 0, 0, True
        while more and time.monotonic() < until:
            rescued = rescue_expired_leases(until=until)
            if rescued.queued or rescued.failed:
                self._activity.count("rescued", len(rescued.queued))
                log.warning("stages.rescued", extra={"queued": len(rescued.queued), "failed": len(rescued.failed)})
            queued, failed, more = queued + len(rescued.queued), failed + len(rescued.failed), rescued.more
        if more:
            self._next = now
        return RescueCounts(queued, failed, more)
