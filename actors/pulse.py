"""The loop beside a worker's threads: renews leases, says that the worker lives, rescues what others lost.

Renewal comes first and has a connection of its own, so that nothing else can make this process lose its stages.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actors.housekeeping import Housekeeping
from actors.watchdog import Watchdog
from vm_webapp.db.pool import own_connection
from vm_webapp.db.sessions import name_session
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.execution.stage_runner import StageRunner
from vm_webapp.fleet.heartbeats import Beat, WorkerIdentity, WorkerState, write_heartbeat
from vm_webapp.fleet.presence import Presence
from vm_webapp.runs.lifecycle import rescue_expired_leases
from vm_webapp.runs.states import LEASE_SECONDS

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
RESCUE_EVERY_SECONDS = 2.0
RESCUE_SECONDS = 0.5  # in a tick: the leases of this worker must be renewed in time, too
STATEMENT_TIMEOUT_MS = 3000
LAST_BEAT_SECONDS = 5.0


class Pulse:
    """The loop of one worker.

    Args:
        url: the database.
        presence: where else this worker says that it lives, None without Redis.
        identity: what does not change about this worker.
        runner: whose leases are renewed and whose activity is told.
        prepare: returns why work cannot begin yet, empty when it can; asked until then.
        threads_alive: whether every consumer and worker thread lives.
        on_due: called with a stage that was rescued.
        on_deaf: called once when a thread has died, the pulse's own included.
        hints_failed: how many hints and notices Redis did not take.
        housekeeping: what is tidied up beside all that.

    Attributes:
        deaf: whether a thread has died, or the pulse hangs for good.
        watchdog: notices when it hangs.
    """

    def __init__(
        self,
        url: str,
        presence: Presence | None,
        identity: WorkerIdentity,
        runner: StageRunner,
        *,
        prepare: Callable[[], str],
        threads_alive: Callable[[], bool],
        on_due: Callable[[UUID], object],
        on_deaf: Callable[[], object],
        hints_failed: Callable[[], int] = lambda: 0,
        housekeeping: Housekeeping | None = None,
    ) -> None:
        self.deaf = False
        self._url = url
        self._presence = presence
        self._identity = identity
        self._runner = runner
        self._prepare = prepare
        self._threads_alive = threads_alive
        self._on_due = on_due
        self._on_deaf = on_deaf
        self._hints_failed = hints_failed
        self._housekeeping = housekeeping or Housekeeping()
        # One is set by the pulse's thread alone, the other by other threads alone: neither undoes the other.
        self._begun = False
        self._leaving: WorkerState | None = None
        self._waits_for = ""
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._last_error: dict[str, Any] | None = None
        self._next_rescue = 0.0
        self._rescued = 0
        self.watchdog = Watchdog(lambda: self.started, on_dead=self._note_deaf)

    @property
    def state(self) -> WorkerState:
        """What the heartbeat tells."""
        return self._leaving or ("working" if self._begun else "starting")

    @property
    def started(self) -> bool:
        """Whether the schema was found fit for this build."""
        return self.state != "starting"

    def start(self) -> None:
        """Start the loop's thread and the one that watches it."""
        self._thread.start()
        self.watchdog.start()

    def announce(self, state: WorkerState) -> None:
        """Say at once that this worker leaves: ``draining`` or ``stopped``."""
        self._leaving = state
        self._wake.set()

    def stop(self) -> None:
        """Write a last heartbeat, ``stopped``, and end the loop."""
        self._leaving, self._stopping = "stopped", True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=LAST_BEAT_SECONDS)
        self.watchdog.stop()

    def tick_once(self, now: float) -> None:
        """Renew, beat, and rescue when that is due.

        Args:
            now: the monotonic time.

        Raises:
            DatabaseUnavailable: the tick did not succeed.
        """
        if self.state == "starting" and not self._may_begin():
            return
        self._runner.leases.renew_once()
        if self._hears():
            steady_seconds = self._say_alive()
            # After an outage every lease looks expired until its worker has had the chance to renew it.
            if steady_seconds >= LEASE_SECONDS and now >= self._next_rescue and self.state == "working":
                self._rescue(now)
                return
        self._housekeeping.run_once(now)

    def _run(self) -> None:
        name = name_session("pulse", self._identity.build)
        with own_connection(self._url, application_name=name, statement_timeout_ms=STATEMENT_TIMEOUT_MS):
            while True:
                began = time.monotonic()
                stopping = self._stopping
                try:
                    self.tick_once(began)
                except DatabaseUnavailable as error:
                    self._note_bad_tick(error)
                except Exception as error:
                    self._note_bad_tick(error, unexpected=True)
                self.watchdog.note_tick()
                if stopping:
                    return
                self._wake.wait(max(0.0, TICK_SECONDS - (time.monotonic() - began)))
                self._wake.clear()

    def _may_begin(self) -> bool:
        reason = self._prepare()
        if reason:
            if reason != self._waits_for:
                log.warning("worker.starting", extra={"waiting_for": reason})
                self._waits_for = reason
            return False
        self._begun = True
        if self.state == "working":  # no shutdown has begun meanwhile
            log.info("worker.started", extra={"slots": self._identity.slots, "provider": self._identity.provider})
        return True

    def _hears(self) -> bool:
        """A worker with a dead thread writes no heartbeat: it must not look healthy."""
        if self.state != "working" or self._threads_alive():
            return True
        self._note_deaf()
        return False

    def _note_deaf(self) -> None:
        # A worker that drains is on its way out already: a second signal would cut that short.
        if not self.deaf and self.state == "working":
            self.deaf = True
            log.error("worker.deaf")
            self._on_deaf()

    def _say_alive(self) -> float:
        heard = write_heartbeat(self._identity, self._beat())
        if self._presence is not None:
            self._presence.announce_soon(
                self._identity.worker_id,
                {"fingerprint": heard.fingerprint, "state": self.state, "build": self._identity.build},
            )
        return heard.steady_seconds

    def _beat(self) -> Beat:
        activity = self._runner.activity
        return Beat(
            state=self.state,
            in_flight=len(self._runner.leases),
            last_claim_at=activity.last_claim_at,
            last_model_outcome=activity.last_model_outcome,
            last_error=self._last_error,
            counters=activity.snapshot() | {"rescued": self._rescued, "hints_failed": self._hints_failed()},
        )

    def _note_bad_tick(self, error: Exception, *, unexpected: bool = False) -> None:
        self._last_error = {"error": str(error)[:300], "at": datetime.now(UTC).isoformat()}
        self._runner.activity.count("loop_errors")
        log.error("worker.loop_error", extra={"error": str(error)[:300]}, exc_info=unexpected)

    def _rescue(self, now: float) -> None:
        self._next_rescue = now + RESCUE_EVERY_SECONDS
        until = time.monotonic() + RESCUE_SECONDS
        more = True
        while more and time.monotonic() < until:
            rescued = rescue_expired_leases(until=until)
            self._rescued += len(rescued.queued)
            for stage_id in rescued.queued:
                self._on_due(stage_id)
            if rescued.queued or rescued.failed:
                log.warning("stages.rescued", extra={"queued": len(rescued.queued), "failed": len(rescued.failed)})
            more = rescued.more
        if more:
            self._next_rescue = now
