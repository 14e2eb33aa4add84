"""Calls to make after the current transaction has committed, collected on the thread that runs it.

Peewee's own hook fires at the connection's next COMMIT, even that of another transaction: a call that was registered by
a transaction that failed to commit would be made after a later one. Here the calls belong to one transaction and are
dropped with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_current = threading.local()


class UnitOfWork:
    """The calls of one transaction. The same call with the same arguments is made once."""

    def __init__(self) -> None:
        # A dict as an ordered set: calls are made in the order in which they were added first.
        self._calls: dict[tuple[Callable[..., object], tuple[Any, ...]], None] = {}

    def begin(self) -> None:
        """Collect the calls that are passed to ``after_commit`` on this thread, until ``end``."""
        # A thread may open a transaction on a dedicated connection within one of the shared pool.
        self._outer: UnitOfWork | None = getattr(_current, "unit", None)
        _current.unit = self

    def end(self) -> None:
        """Collect no more."""
        _current.unit = self._outer

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect the calls that are passed to ``after_commit`` on this thread within the block."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def add(self, call: Callable[..., object], *arguments: Any) -> None:
        """Add a call, unless the same one was added before."""
        self._calls[call, arguments] = None

    def committed(self) -> None:
        """Make the calls, in the order in which they were added."""
        for call, arguments in self._calls:
            call(*arguments)


def after_commit(call: Callable[..., object], *arguments: Any) -> None:
    """Make a call after the current transaction has committed; never if it is rolled back.

    Outside a transaction the call is made at once.

    Args:
        call: must not raise, because its transaction has committed already.
        arguments: hashable; the same call with equal arguments is made once per transaction.
    """
    unit: UnitOfWork | None = getattr(_current, "unit", None)
    if unit is None:
        call(*arguments)
    else:
        unit.add(call, *arguments)
