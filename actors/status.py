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
        on_deaf: called once when the worker cannot go on although it should.

    Attributes:
        identity: what does not change about it.
        deaf: whether a thread has died, or the pulse hangs for good: the process must be replaced.
    """

    def __init__(self, identity: WorkerIdentity, on_deaf: Callable[[], object]) -> None:
        self.identity = identity
        self.deaf = False
        self._on_deaf = on_deaf
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

    def note_deaf(self) -> None:
        """Note that a thread has died, or hangs. A worker that drains is on its way out already and is left alone."""
        if not self.deaf and self.state == "working":
            self.deaf = True
            log.error("worker.deaf")
            self._on_deaf()
