"""The pulse (the worker's maintenance loop): the order and the periods of its duties.

It renews leases first, and on a database connection of its own: an exhausted pool must not cost the worker its leases.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from actors.duties.beat import Beat
from actors.duties.purge import PurgeLeftovers, PurgeRuns
from actors.duties.renew import Renew
from actors.duties.rescue import Rescue
from actors.schedule import Periodic
from actors.status import WorkerStatus
from actors.watchdog import Watchdog
from vm_webapp.db.pool import dedicated_connection
from vm_webapp.db.sessions import name_session
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.execution.activity import Activity
from vm_webapp.loops import Loop
from vm_webapp.runs.states import LEASE_SECONDS
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
RESCUE_EVERY_SECONDS = 2.0
HOUR, DAY = 3600.0, 86_400.0
TRY_AGAIN_SECONDS = 60.0
STATEMENT_TIMEOUT_MS = 3000
LAST_BEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Duties:
    """The duties of the pulse."""

    renew: Renew
    beat: Beat
    rescue: Rescue
    purge_leftovers: PurgeLeftovers
    purge_runs: PurgeRuns


class Purges:
    """Deletes expired rows periodically, at most one batch in a tick.

    Args:
        leftovers: runs every hour.
        runs: runs every day.
    """

    def __init__(self, leftovers: PurgeLeftovers, runs: PurgeRuns) -> None:
        self._periodic = (
            Periodic(leftovers.run_once, every_seconds=HOUR, after_error_seconds=TRY_AGAIN_SECONDS),
            Periodic(runs.run_once, every_seconds=DAY, after_error_seconds=TRY_AGAIN_SECONDS),
        )

    def run_once(self, now: float) -> None:
        """Delete a batch for the first purge that is due at the monotonic time ``now``."""
        # ``any`` stops at the first that ran, so that a tick stays short and the leases are renewed in time.
        any(each.run_if_due(now) for each in self._periodic)


class Pulse:
    """The maintenance loop of one worker.

    Args:
        duties: what a tick runs.
        status: the worker's state.
        activity: records the loop's errors for the heartbeat.
        prepare: returns why the worker cannot start work yet, empty when it can; called every tick until then.
        find_fault: returns which thread of the worker has died or hangs, empty when all of them work.
        connection: opens the loop's own database connection, on the loop's thread.

    Attributes:
        watchdog: notices when the loop hangs.
    """

    def __init__(
        self,
        duties: Duties,
        status: WorkerStatus,
        activity: Activity,
        *,
        prepare: Callable[[], str],
        find_fault: Callable[[], str],
        connection: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._renew = duties.renew
        self._beat = duties.beat
        self._rescue = Periodic(duties.rescue.run_once, every_seconds=RESCUE_EVERY_SECONDS)
        self._purges = Purges(duties.purge_leftovers, duties.purge_runs)
        self._status = status
        self._activity = activity
        self._prepare = prepare
        self._find_fault = find_fault
        self._waits_for = ""
        self._loop = Loop("pulse", self.run_once, every_seconds=TICK_SECONDS, around=connection)
        self.watchdog = Watchdog(
            lambda: status.started, on_hang=lambda: status.note_unhealthy("the maintenance loop hangs")
        )

    def start(self) -> None:
        """Start the loop's thread and the watchdog's."""
        self._loop.start()
        self.watchdog.start()

    def tick_now(self) -> None:
        """Start the next tick at once, so that the heartbeat shows a new state without delay."""
        self._loop.wake()

    def stop(self) -> None:
        """Write a last heartbeat and end the loop."""
        self._loop.stop(LAST_BEAT_SECONDS, once_more=True)
        self.watchdog.stop()

    def run_once(self) -> None:
        """Tick, and record any error: the loop goes on."""
        try:
            self.tick_once(time.monotonic())
        except DatabaseUnavailable as error:
            self._record_failed_tick(error)
        except Exception as error:
            self._record_failed_tick(error, unexpected=True)
        self.watchdog.note_tick()

    def tick_once(self, now: float) -> None:
        """Renew the leases, write the heartbeat, and rescue and purge when they are due.

        Args:
            now: the monotonic time.

        Raises:
            DatabaseUnavailable: a duty failed; those after it did not run.
        """
        if not self._status.started and not self._may_begin():
            return
        self._renew.run_once()
        if self._is_healthy():
            steady_seconds = self._beat.run_once().steady_seconds
            # After a database outage every lease has expired, until its worker has had the time to renew it.
            may_rescue = steady_seconds >= LEASE_SECONDS and self._status.state == "working"
            # A rescue may take half a second: the purge waits for the next tick, after the next renewal.
            if may_rescue and self._rescue.run_if_due(now):
                return
        self._purges.run_once(now)

    def _may_begin(self) -> bool:
        reason = self._prepare()
        if reason:
            if reason != self._waits_for:  # once for each reason, not once a second
                log.warning("worker.starting", extra={"waiting_for": reason})
                self._waits_for = reason
            return False
        self._status.begin()
        return True

    def _is_healthy(self) -> bool:
        """Return whether the worker is healthy. An unhealthy one writes no heartbeat: it must not look healthy."""
        if self._status.state != "working":
            return True
        fault = self._find_fault()
        if fault:
            self._status.note_unhealthy(fault)
        return not fault

    def _record_failed_tick(self, error: Exception, *, unexpected: bool = False) -> None:
        self._activity.note_error(shortened(error))
        self._activity.count("loop_errors")
        log.error("worker.loop_error", extra={"error": shortened(error)}, exc_info=unexpected)


@contextmanager
def pulse_connection(url: str, build: str) -> Iterator[None]:
    """Give the calling thread a connection that no other thread can take, with a short statement time-out."""
    name = name_session("pulse", build)
    with dedicated_connection(url, application_name=name, statement_timeout_ms=STATEMENT_TIMEOUT_MS):
        yield
