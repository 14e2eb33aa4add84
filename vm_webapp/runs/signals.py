"""Signals of the core to the rest of the program: a stage became due, a run is there, a run has new events.

A signal is raised in the transaction that makes the change and fires after its commit, so that a change which was
rolled back is never published. Nothing depends on a signal: idle workers and followers of a run also poll. The
composition roots connect handlers to the signals; the core knows none of them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from vm_webapp.db.unit_of_work import after_commit

log = logging.getLogger(__name__)

Handler = Callable[[UUID], object]


class Signal:
    """An event of the program that handlers are called for, with the id of the stage or run that it concerns.

    Args:
        name: its name in the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # Replaced and never changed in place, so that _fire can iterate over it without the lock.
        self._handlers: tuple[Handler, ...] = ()
        self._lock = threading.Lock()

    @contextmanager
    def connected(self, handler: Handler) -> Iterator[None]:
        """Call a handler for the block, after each commit that raised the signal.

        Args:
            handler: called with the id on the thread that committed, which no longer holds a connection. It must not
                wait for anything; what it raises is logged and does not reach the caller of the transaction.
        """
        with self._lock:
            self._handlers = (*self._handlers, handler)
        try:
            yield
        finally:
            with self._lock:
                # One of them only: the same handler may be connected twice, by two blocks.
                at = self._handlers.index(handler)
                self._handlers = self._handlers[:at] + self._handlers[at + 1 :]

    def raise_after_commit(self, id: UUID) -> None:
        """Fire once the current transaction is committed; not at all when it is rolled back."""
        after_commit(self._fire, id)

    def _fire(self, id: UUID) -> None:
        for handler in self._handlers:
            # The change is committed: an error that reached the caller would look like a failed transaction.
            try:
                handler(id)
            except Exception:
                log.exception("signal.failed", extra={"signal": self._name, "id": str(id)})


stage_due = Signal("stage_due")
"""A stage may be claimed from now on, and its transaction has not claimed it itself. The id is the stage's.

Where an owner with a limit has room again, it is the id of a stage that has ended: others of that owner may be claimed.
"""

run_created = Signal("run_created")
"""A run is there; nobody can have followed it. The id is the run's."""

run_changed = Signal("run_changed")
"""A run that was there has new events. The id is the run's."""
