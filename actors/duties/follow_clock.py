"""Follows a step back of the database's clock, so that nothing waits until the clock has caught up."""

from __future__ import annotations

import logging

from vm_webapp.runs.lifecycle import follow_clock_back

log = logging.getLogger(__name__)


class FollowClock:
    """Moves the stored times after the database's clock has stepped back."""

    def run_once(self) -> float:
        """Move them if the clock is behind the newest heartbeat.

        Returns:
            By how many seconds the clock stepped back; 0 where it did not.

        Raises:
            DatabaseUnavailable: nothing was moved.
        """
        seconds = follow_clock_back()
        if seconds:
            log.warning("clock.stepped_back", extra={"seconds": round(seconds, 1)})
        return seconds
