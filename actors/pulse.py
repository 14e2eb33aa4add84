"""The pulse, a worker's maintenance loop: the order and the periods of its duties.

Each second it renews the leases of the worker's attempts and writes the heartbeat; now and then it requeues the stages
of dead workers (the rescue), fails runs whose budget is spent, deletes expired rows (the purges), seals the audit
trail, sums the usage and publishes the worker's metrics. The loop has a database connection of its own, so that an
exhausted pool cannot stop the renewals, which come first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from actors.duties.beat import Beat
from actors.duties.fail_spent import FailSpent
from actors.duties.follow_clock import FollowClock
from actors.duties.move_snapshots import MoveSnapshots
from actors.duties.publish import Publish
from actors.duties.purge import PurgeAudit, PurgeLeftovers, PurgeRuns
from actors.duties.renew import Renew
from actors.duties.rescue import Rescue
from actors.duties.seal import SealAudit
from actors.duties.sum_usage import SumUsage
from actors.schedule import Periodic
from actors.status import WorkerStatus
from actors.watchdog import Watchdog
from vm_webapp.db.pool import dedicated_connection
from vm_webapp.db.sessions import name_session
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.execution.activity import Activity
from vm_webapp.fleet.heartbeats import ClockSteppedBack, WrittenHeartbeat
from vm_webapp.fleet.process_metrics import PUBLISH_SECONDS
from vm_webapp.loops import Loop
from vm_webapp.metrics import LOOP_ERRORS
from vm_webapp.runs.states import LEASE_SECONDS
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
RESCUE_EVERY_SECONDS = 2.0
FAIL_SPENT_EVERY_SECONDS = 4.0  # with the length of a tick, within five seconds
SEAL_EVERY_SECONDS = 10.0  # an idle worker then sends one statement more in ten seconds
HOUR, DAY = 3600.0, 86_400.0
RETRY_PURGE_SECONDS = 60.0
RETRY_SEAL_SECONDS = 60.0
SUM_EVERY_SECONDS = 10.0  # an idle worker then sends one statement more in a minute
MOVE_EVERY_SECONDS = 60.0  # one statement, which reads an empty index once all is moved
STATEMENT_TIMEOUT_MS = 3000
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Duties:
    """What a tick does, in this order; each duty has its period."""

    renew: Renew
    follow_clock: FollowClock
    beat: Beat
    rescue: Rescue
    fail_spent: FailSpent
    purge_leftovers: PurgeLeftovers
    purge_runs: PurgeRuns
    purge_audit: PurgeAudit
    seal_audit: SealAudit
    sum_usage: SumUsage
    move_snapshots: MoveSnapshots
    publish: Publish


class Purges:
    """Deletes expired rows periodically, at most one batch in a tick.

    Args:
        leftovers: hourly, deletes rows that serve no longer (heartbeats, idempotency keys, API keys).
        runs: daily, deletes finished runs that are old enough.
        audit: daily, removes the oldest part of the audit trail.
    """

    def __init__(self, leftovers: PurgeLeftovers, runs: PurgeRuns, audit: PurgeAudit) -> None:
        self._periodic = (
            Periodic(leftovers.run_once, every_seconds=HOUR, after_error_seconds=RETRY_PURGE_SECONDS),
            Periodic(runs.run_once, every_seconds=DAY, after_error_seconds=RETRY_PURGE_SECONDS),
            Periodic(audit.run_once, every_seconds=DAY, after_error_seconds=RETRY_PURGE_SECONDS),
        )

    def run_once(self, now: float) -> bool:
        """Delete a batch for the first purge that is due at the monotonic time ``now``; return whether one was."""
        # ``any`` stops at the first that ran, so that a tick stays short and the leases are renewed in time.
        return any(each.run_if_due(now) for each in self._periodic)


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
        self._follow_clock = duties.follow_clock
        self._beat = duties.beat
        self._rescue = Periodic(duties.rescue.run_once, every_seconds=RESCUE_EVERY_SECONDS)
        self._fail_spent = Periodic(duties.fail_spent.run_once, every_seconds=FAIL_SPENT_EVERY_SECONDS)
        self._purges = Purges(duties.purge_leftovers, duties.purge_runs, duties.purge_audit)
        self._seal = Periodic(
            duties.seal_audit.run_once, every_seconds=SEAL_EVERY_SECONDS, after_error_seconds=RETRY_SEAL_SECONDS
        )
        self._sum = Periodic(duties.sum_usage.run_once, every_seconds=SUM_EVERY_SECONDS)
        self._move = Periodic(
            duties.move_snapshots.run_once, every_seconds=MOVE_EVERY_SECONDS, after_error_seconds=RETRY_PURGE_SECONDS
        )
        self._publish = Periodic(duties.publish.run_once, every_seconds=PUBLISH_SECONDS)
        self._publish_last = duties.publish.run_once
        self._status = status
        self._activity = activity
        self._prepare = prepare
        self._find_fault = find_fault
        self._last_reason = ""
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
        """Run a last tick, which writes the last heartbeat, and end the loop."""
        self._loop.stop(STOP_SECONDS, once_more=True)
        self.watchdog.stop()

    def run_once(self) -> None:
        """Run a tick; record an error instead of ending the loop."""
        now = time.monotonic()
        try:
            self.tick_once(now)
            self._publish_if_due(now)
        except DatabaseUnavailable as error:
            self._record_failed_tick(error)
        except Exception as error:
            self._record_failed_tick(error, unexpected=True)
        self.watchdog.note_tick()

    def tick_once(self, now: float) -> None:
        """Renew the leases, write the heartbeat, follow a clock that stepped back; the other duties when they are due.

        Before the worker can start it does nothing. An unhealthy worker writes no heartbeat and rescues nothing: others
        see it as dead. It still renews, because its other threads finish their stages while it drains.

        Args:
            now: the monotonic time.

        Raises:
            DatabaseUnavailable: a duty failed; those after it did not run.
        """
        if not self._status.started and not self._begin_if_possible():
            return
        self._renew.run_once()
        if self._check_health():
            steady_seconds = self._write_heartbeat().steady_seconds
            # After a database outage all leases may have expired although their workers live: they get the length of a
            # lease to renew them.
            may_rescue = steady_seconds >= LEASE_SECONDS and self._status.state == "working"
            # A rescue may take half a second: the purge waits for the next tick, after the next renewal.
            if may_rescue and self._rescue.run_if_due(now):
                return
            self._fail_spent.run_if_due(now)
        # One of them in a tick.
        _ = (
            self._purges.run_once(now)
            or self._seal.run_if_due(now)
            or self._sum.run_if_due(now)
            or self._move.run_if_due(now)
        )

    def _write_heartbeat(self) -> WrittenHeartbeat:
        try:
            return self._beat.run_once()
        except ClockSteppedBack:
            self._follow_clock.run_once()
            return self._beat.run_once()

    def _publish_if_due(self, now: float) -> None:
        if self._status.state == "stopped":  # the last tick
            self._publish_last()
        elif self._status.started:
            self._publish.run_if_due(now)

    def _begin_if_possible(self) -> bool:
        reason = self._prepare()
        if reason:
            if reason != self._last_reason:  # once for each reason, not once a second
                log.warning("worker.starting", extra={"waiting_for": reason})
                self._last_reason = reason
            return False
        self._status.begin()
        return True

    def _check_health(self) -> bool:
        """Return whether the worker is healthy, and mark it unhealthy if a thread has died or hangs.

        Only while it works: a worker that starts or drains has threads that have not begun, or have ended.
        """
        if self._status.state != "working":
            return True
        fault = self._find_fault()
        if fault:
            self._status.note_unhealthy(fault)
        return not fault

    def _record_failed_tick(self, error: Exception, *, unexpected: bool = False) -> None:
        self._activity.note_error(shortened(error))
        self._activity.count("loop_errors")
        LOOP_ERRORS.inc()
        log.error("worker.loop_error", extra={"error": shortened(error)}, exc_info=unexpected)


@contextmanager
def pulse_connection(url: str, build: str) -> Iterator[None]:
    """Give the calling thread its own connection, outside of the pool, with a statement time-out of three seconds."""
    name = name_session("pulse", build)
    with dedicated_connection(url, application_name=name, statement_timeout_ms=STATEMENT_TIMEOUT_MS):
        yield
