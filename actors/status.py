"""What this worker is doing, as its heartbeat tells it, and whether it can go on."""

from __future__ import annotations

import logging
from collections.abc import Callable

from vm_webapp.fleet.heartbeats import WorkerIdentity, WorkerState

log = logging.getLogger(__name__)


class WorkerStatus:
    """The state of one worker: starting → working → draining → stopped.

    Args:
        identity: which worker.
        on_unhealthy: called once, when the worker becomes unhealthy.

    Attributes:
        identity: what does not change about it.
        unhealthy: whether a thread has died or hangs, so that the process must be replaced.
    """

    def __init__(self, identity: WorkerIdentity, on_unhealthy: Callable[[], object]) -> None:
        self.identity = identity
        self.unhealthy = False
        self._on_unhealthy = on_unhealthy
        # One is set by the pulse's thread alone, the other by other threads alone: neither undoes the other.
        self._begun = False
        self._leaving: WorkerState | None = None

    @property
    def state(self) -> WorkerState:
        """What the heartbeat tells."""
        return self._leaving or ("working" if self._begun else "starting")

    @property
    def started(self) -> bool:
        """Whether the schema was found fit for this build."""
        return self.state != "starting"

    def begin(self) -> None:
        """Say that work can begin."""
        self._begun = True
        if self.state == "working":  # no shutdown has begun meanwhile
            log.info("worker.started", extra={"slots": self.identity.slots, "provider": self.identity.provider})

    def leave(self, state: WorkerState) -> None:
        """Say that this worker goes: ``draining`` or ``stopped``."""
        self._leaving = state

    def note_unhealthy(self, reason: str) -> None:
        """Note that the worker cannot work any more. Does nothing while the worker drains: it is about to exit anyway.

        Args:
            reason: which thread has died or hangs.
        """
        if not self.unhealthy and self.state == "working":
            self.unhealthy = True
            log.error("worker.unhealthy", extra={"reason": reason})
            self._on_unhealthy()
