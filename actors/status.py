"""The state of this worker, which its heartbeat reports, and whether the worker is healthy."""

from __future__ import annotations

import logging
from collections.abc import Callable

from vm_webapp.fleet.heartbeats import WorkerIdentity, WorkerState

log = logging.getLogger(__name__)


class WorkerStatus:
    """The state of one worker: starting → working → draining → stopped.

    Args:
        identity: the facts about the worker that never change.
        on_unhealthy: called once, when the worker becomes unhealthy.

    Attributes:
        identity: the facts about the worker that never change.
        unhealthy: whether a thread has died or hangs, so that the process must be replaced.
    """

    def __init__(self, identity: WorkerIdentity, on_unhealthy: Callable[[], object]) -> None:
        self.identity = identity
        self.unhealthy = False
        self._on_unhealthy = on_unhealthy
        # Two fields, because two threads write: the pulse (the maintenance loop) sets the first, and the thread that
        # shuts the worker down sets the second. With one field, a start could overwrite a drain that has just begun.
        self._begun = False
        self._leaving: WorkerState | None = None

    @property
    def state(self) -> WorkerState:
        """The state that the heartbeat reports."""
        return self._leaving or ("working" if self._begun else "starting")

    @property
    def started(self) -> bool:
        """Whether the worker has left the state ``starting``."""
        return self.state != "starting"

    def begin(self) -> None:
        """Let the worker take work: the schema fits this build."""
        self._begun = True
        if self.state == "working":  # unless a shutdown has begun
            log.info("worker.started", extra={"slots": self.identity.slots, "provider": self.identity.provider})

    def leave(self, state: WorkerState) -> None:
        """Set the state to ``draining`` or ``stopped``."""
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
