"""Says that this worker lives: in its row of PostgreSQL, and in Redis for an API that uses another database."""

from __future__ import annotations

from collections.abc import Callable

from actors.status import WorkerStatus
from vm_webapp.execution.activity import Activity
from vm_webapp.execution.leases import HeldLeases
from vm_webapp.fleet.heartbeats import Heartbeat, WrittenHeartbeat, write_heartbeat
from vm_webapp.fleet.presence import Presence


class Beat:
    """Writes the heartbeat of one worker.

    Args:
        status: which worker, and what it is doing.
        activity: what it has been doing.
        leases: the stages that it holds.
        presence: where else it says that it lives, None without Redis.
        hints_failed: how many hints and notices Redis did not take.
    """

    def __init__(
        self,
        status: WorkerStatus,
        activity: Activity,
        leases: HeldLeases,
        *,
        presence: Presence | None,
        hints_failed: Callable[[], int],
    ) -> None:
        self._status = status
        self._activity = activity
        self._leases = leases
        self._presence = presence
        self._hints_failed = hints_failed

    def run_once(self) -> WrittenHeartbeat:
        """Write it.

        Returns:
            What the database answers.

        Raises:
            DatabaseUnavailable: it was not written.
        """
        heard = write_heartbeat(self._status.identity, self._heartbeat())
        if self._presence is not None:
            self._presence.announce_soon(
                self._status.identity.worker_id,
                {"fingerprint": heard.fingerprint, "state": self._status.state, "build": self._status.identity.build},
            )
        return heard

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            state=self._status.state,
            in_flight=len(self._leases),
            last_claim_at=self._activity.last_claim_at,
            last_model_outcome=self._activity.last_model_outcome,
            last_error=self._activity.last_error,
            counters={"rescued": 0} | self._activity.snapshot() | {"hints_failed": self._hints_failed()},
        )
