"""Rescues stages whose worker died: their lease has expired, so they are queued again or failed."""

from __future__ import annotations

import logging
import time

from vm_webapp.execution.activity import Activity
from vm_webapp.execution.attempt_spans import note_lost_attempts
from vm_webapp.runs.lifecycle import rescue_expired_leases
from vm_webapp.tracing.spans import Tracer

log = logging.getLogger(__name__)

LONGEST_SECONDS = 0.5  # per tick, because this worker must renew its own leases in time


class Rescue:
    """Rescues the stages whose lease has expired.

    Args:
        activity: counts the rescued stages.
        tracer: records the attempts that they have lost, None to record no traces.
    """

    def __init__(self, activity: Activity, tracer: Tracer | None = None) -> None:
        self._activity = activity
        self._tracer = tracer

    def run_once(self) -> bool:
        """Rescue batch after batch for at most half a second.

        Returns:
            Whether expired leases may be left because the time was up.

        Raises:
            DatabaseUnavailable: the last batch failed; earlier ones are committed.
        """
        until = time.monotonic() + LONGEST_SECONDS
        more = True
        while more and time.monotonic() < until:
            # ``until`` also bounds a batch, because each stage that is failed takes statements of its own.
            rescued = rescue_expired_leases(until=until)
            if rescued.queued or rescued.failed:
                self._activity.count("rescued", len(rescued.queued))
                log.warning("stages.rescued", extra={"queued": len(rescued.queued), "failed": len(rescued.failed)})
            if self._tracer is not None:
                note_lost_attempts(self._tracer, rescued.lost)
            more = rescued.more
        return more
