"""What the core tells the rest of the program: that a stage became due, and that a run has new events.

A signal is raised in the transaction in which the thing happens and fires after its commit, so nobody hears of what
was rolled back. Nothing depends on it: idle workers and followers of a run also look for themselves. The composition
roots connect the signals to whoever wants to hear them; the core knows none of them.
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
    """One kind of news, told with the id of what it is about.

    Args:
        name: what the log calls it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._handlers: tuple[Handler, ...] = ()
        self._lock = threading.Lock()

    @contextmanager
    def connected(self, handler: Handler) -> Iterator[None]:
        """Call a handler for the block, after each commit that raised the signal.

        Args:
            handler: called with the id on the thread that committed, which holds no connection any more. It must not
                wait for anything; what it raises is logged and changes nothing for whoever committed.
        """
        with self._lock:
            self._handlers = (*self._handlers, handler)
        try:
            yield
        finally:
            with self._lock:
                at = self._handlers.index(handler)
                self._handlers = self._handlers[:at] + self._handlers[at + 1 :]

    def raise_after_commit(self, id: UUID) -> None:
        """Fire once the current transaction is committed; not at all when it is rolled back."""
        after_commit(self._fire, id)

    def _fire(self, id: UUID) -> None:
        for handler in self._handlers:
            try:
                handler(id)
            except Exception:
                log.exception("signal.failed", extra={"signal": self._name, "id": str(id)})


stage_due = Signal("stage_due")
"""A stage may be claimed from now on, and nobody has: told with the stage's id."""

run_changed = Signal("run_changed")
"""A run has new events: told with the run's id."""
