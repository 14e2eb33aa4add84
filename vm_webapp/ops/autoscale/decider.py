"""Decides on the number of workers every five seconds, in one API process at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vm_webapp.db.pool import transaction
from vm_webapp.fleet.duty_leases import DutyLease
from vm_webapp.loops import Loop, noting_outages
from vm_webapp.ops.autoscale.figures import read_figures
from vm_webapp.ops.autoscale.policy import PAST_SECONDS, decide
from vm_webapp.ops.autoscale.shapes import Decision, Figures, Limits
from vm_webapp.ops.autoscale.stored import from_json, store_if_held
from vm_webapp.settings import Settings

log = logging.getLogger(__name__)

LEASE = "decide"
DECIDE_SECONDS = 5.0
# With the wait for the next turn, another process decides in less than twenty seconds after the holder's death.
LEASE_SECONDS = 14.0
STOP_SECONDS = 1.0
Decide = Callable[[Figures, Limits, Sequence[Decision], float], Decision]


class Decider:
    """Decides while it has the lease, and asks for it while it has not.

    Args:
        settings: limits and target, unless the process that scales has others; the sizes of a worker.
        holder: who this is, for people.
        clock: monotonic seconds.
        decide: the policy.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        holder: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        decide: Decide = decide,
    ) -> None:
        self._settings = settings
        self._limits = Limits.of(settings)
        self._lease = DutyLease(LEASE, holder, seconds=LEASE_SECONDS, clock=clock)
        self._decide = decide

    def run_once(self) -> Decision | None:
        """Decide and store the decision, if this process has the lease or can take it.

        Returns:
            The decision; None if another process has the lease.

        Raises:
            DatabaseUnavailable: nothing was decided; the next call tries again.
        """
        # By itself, so that a process without the lease asks by one statement.
        if not self._lease.remaining_seconds and not self._lease.hold():
            return None
        # Not durable: a decision that a crash loses is made again in five seconds.
        with transaction(durable=False):
            return self._decide_if_held()

    def release(self) -> None:
        """Let another process decide at once, if this one has the lease."""
        self._lease.release()

    def _decide_if_held(self) -> Decision | None:
        # First, so that its row stays locked until the decision is stored: nobody can take the lease in between.
        if not self._lease.hold():
            return None
        settings = self._settings
        reading = read_figures(slots_each=settings.worker_threads, connections_each=settings.worker_connections)
        limits = limits_of(reading.scaler) or self._limits
        past = from_json(reading.past, since=reading.at - PAST_SECONDS)
        decision = self._decide(reading.figures, limits, past, reading.at)
        stored = store_if_held(decision, limits, reading, past, lease=LEASE, token=self._lease.token)
        return decision if stored else None


def limits_of(details: Any) -> Limits | None:
    """Return the limits in the details of the lease of the process that scales; None if they are none."""
    try:
        limits = Limits(int(details["min"]), int(details["max"]), float(details["target_wait_seconds"]))
    except (KeyError, TypeError, ValueError):
        return None
    return limits if 0 <= limits.min_workers <= limits.max_workers and limits.target_wait_seconds > 0 else None


@contextmanager
def deciding(settings: Settings) -> Iterator[None]:
    """Decide on a thread of its own while the block lasts."""
    decider = Decider(settings)
    run = noting_outages(decider.run_once, log, "autoscale.undecided")
    loop = Loop("autoscale", run, every_seconds=DECIDE_SECONDS)
    loop.start()
    try:
        yield
    finally:
        loop.stop(STOP_SECONDS)
        decider.release()
