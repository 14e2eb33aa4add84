"""Reports that this worker is alive: in PostgreSQL, and in Redis for an API that was given another database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.status import WorkerStatus
from vm_webapp.execution.activity import Activity
from vm_webapp.execution.leases import HeldLeases
from vm_webapp.fleet.heartbeats import Heartbeat, WrittenHeartbeat, write_heartbeat, write_workspace
from vm_webapp.fleet.presence import Presence

TAKES_HINTS = "by database"  # workers of the build before do not say it: they share the keys of their hints


class Beat:
    """Writes the heartbeat of one worker.

    Args:
        status: the worker's identity and state.
        activity: its counters, last claim, last model outcome and last error.
        leases: the leases of the stages that it holds.
        presence: announces the worker in Redis; None without Redis.
        hints_failed: returns how many hints and notices failed.
        workspace: returns what is known of the workspace folder, None if nothing is.
    """

    def __init__(
        self,
        status: WorkerStatus,
        activity: Activity,
        leases: HeldLeases,
        *,
        presence: Presence | None,
        hints_failed: Callable[[], int],
        workspace: Callable[[], dict[str, Any] | None] = lambda: None,
    ) -> None:
        self._status = status
        self._activity = activity
        self._leases = leases
        self._presence = presence
        self._hints_failed = hints_failed
        self._workspace = workspace
        self._written_workspace: dict[str, Any] | None = None

    def run_once(self) -> WrittenHeartbeat:
        """Write the heartbeat.

        Returns:
            The database's fingerprint, and for how long heartbeats have reached it without a gap.

        Raises:
            DatabaseUnavailable: the heartbeat was not written.
            ClockSteppedBack: likewise, since it would hide by how much.
        """
        written = write_heartbeat(self._status.identity, self._heartbeat())
        self._write_workspace()
        if self._presence is not None:
            # Not on this thread: looking up a Redis name may hang, and would delay the next renewal of leases.
            self._presence.announce_soon(
                self._status.identity.worker_id,
                {
                    "fingerprint": written.fingerprint,
                    "state": self._status.state,
                    "build": self._status.identity.build,
                    "host": self._status.identity.host,
                    "pid": self._status.identity.pid,
                    "hints": TAKES_HINTS,
                },
            )
        return written

    def _write_workspace(self) -> None:
        facts = self._workspace()
        # The probe makes new facts every few seconds; the same ones need not be written again at each beat.
        if facts is not None and facts is not self._written_workspace:
            write_workspace(self._status.identity.worker_id, facts)
            self._written_workspace = facts

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            state=self._status.state,
            in_flight=len(self._leases),
            last_claim_at=self._activity.last_claim_at,
            last_model_outcome=self._activity.last_model_outcome,
            last_error=self._activity.last_error,
            counters={"rescued": 0} | self._activity.snapshot() | {"hints_failed": self._hints_failed()},
        )
