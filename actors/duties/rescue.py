"""Takes back the stages that other workers have lost."""

from __future__ import annotations

import logging
import time

from vm_webapp.execution.activity import Activity
from vm_webapp.runs.lifecycle import rescue_expired_leases

log = logging.getLogger(__name__)

LONGEST_SECONDS = 0.5  # at a time: the leases of this worker must be renewed in time, too


class Rescue:
    """Rescues whatever lease has ended.

    Args:
        activity: where rescued stages are counted.
    """

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def run_once(self) -> bool:
        """Rescue batch after batch for at most half a second.

        Returns:
            Whether the time was over before all were seen to.

        Raises:
            DatabaseUnavailable: the last batch was not done.
        """
        until = time.monotonic() + LONGEST_SECONDS
        more = True
        while more and time.monotonic() < until:
            rescued = rescue_expired_leases(until=until)
            if rescued.queued or rescued.failed:
                self._activity.count("rescued", len(rescued.queued))
                log.warning("stages.rescued", extra={"queued": len(rescued.queued), "failed": len(rescued.failed)})
            more = rescued.more
        return more
