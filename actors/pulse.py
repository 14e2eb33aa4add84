"""The loop beside a worker's threads: the order and the periods of its duties.

Renewal comes first and has a connection of its own, so that nothing else can make this process lose its stages.
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
from vm_webapp.db.pool import own_connection
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
    """What the pulse does."""

    renew: Renew
    beat: Beat
    rescue: Rescue
    purge_leftovers: PurgeLeftovers
    purge_runs: PurgeRuns


class Purges:
    """The deletions with their periods, of which a tick does one at most.

    Args:
        leftovers: done hourly.
        runs: done daily.
    """

    def __init__(self, leftovers: PurgeLeftovers, runs: PurgeRuns) -> None:
        self._periodic = (
            Periodic(leftovers.run_once, every_seconds=HOUR, after_error_seconds=TRY_AGAIN_SECONDS),
            Periodic(runs.run_once, every_seconds=DAY, after_error_seconds=TRY_AGAIN_SECONDS),
        )

    def run_once(self, now: float) -> None:
        """Do a piece of the first that is due, by the monotonic time ``now``."""
        any(each.run_if_due(now) for each in self._periodic)


class Pulse:
    """The loop of one worker.

    Args:
        duties: what it does.
        status: what the worker is doing.
        activity: where errors of the loop are noted, for the heartbeat.
        prepare: returns why work cannot begin yet, empty when it can; asked until then.
        find_fault: returns which thread of the worker has died or hangs, empty when all of them work.
        connection: what surrounds the loop on its thread: a database connection of its own.

    Attributes:
        watchdog: notices when it hangs.
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
        """Start the loop's thread and the one that watches it."""
        self._loop.start()
        self.watchdog.start()

    def say_at_once(self) -> None:
        """Tick now: the worker's state has changed."""
        self._loop.wake()

    def stop(self) -> None:
        """Write a last heartbeat and end the loop."""
        self._loop.stop(LAST_BEAT_SECONDS, once_more=True)
        self.watchdog.stop()

    def run_once(self) -> None:
        """Tick, and note what went wrong: the loop goes on, whatever that was."""
        try:
            self.tick_once(time.monotonic())
        except DatabaseUnavailable as error:
            self._note_bad_tick(error)
        except Exception as error:
            self._note_bad_tick(error, unexpected=True)
        self.watchdog.note_tick()

    def tick_once(self, now: float) -> None:
        """Renew, beat, and rescue when that is due.

        Args:
            now: the monotonic time.

        Raises:
            DatabaseUnavailable: the tick did not succeed.
        """
        if not self._status.started and not self._may_begin():
            return
        self._renew.run_once()
        if self._is_healthy():
            steady_seconds = self._beat.run_once().steady_seconds
            # After an outage every lease looks expired until its worker has had the chance to renew it.
            may_rescue = steady_seconds >= LEASE_SECONDS and self._status.state == "working"
            if may_rescue and self._rescue.run_if_due(now):
                return
        self._purges.run_once(now)

    def _may_begin(self) -> bool:
        reason = self._prepare()
        if reason:
            if reason != self._waits_for:
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

    def _note_bad_tick(self, error: Exception, *, unexpected: bool = False) -> None:
        self._activity.note_error(shortened(error))
        self._activity.count("loop_errors")
        log.error("worker.loop_error", extra={"error": shortened(error)}, exc_info=unexpected)


@contextmanager
def pulse_connection(url: str, build: str) -> Iterator[None]:
    """Give the calling thread a connection that no other thread can take, with a short statement time-out."""
    name = name_session("pulse", build)
    with own_connection(url, application_name=name, statement_timeout_ms=STATEMENT_TIMEOUT_MS):
        yield
