"""What is to be called once the current transaction is committed, collected on the thread that runs it.

Peewee's own hook fires with the connection's next COMMIT, whoever's that is: a call that was left by a transaction
that failed to commit would come with a later one. Here the calls belong to one transaction and end with it.
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
        self._calls: dict[tuple[Callable[..., object], tuple[Any, ...]], None] = {}

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect what ``after_commit`` is told on this thread within the block."""
        around: UnitOfWork | None = getattr(_current, "unit", None)  # of another connection of this thread
        _current.unit = self
        try:
            yield
        finally:
            _current.unit = around

    def add(self, call: Callable[..., object], *arguments: Any) -> None:
        """Remember a call."""
        self._calls[call, arguments] = None

    def committed(self) -> None:
        """Make the calls, in the order in which they came."""
        for call, arguments in self._calls:
            call(*arguments)


def after_commit(call: Callable[..., object], *arguments: Any) -> None:
    """Call something once the current transaction is committed; not at all when it is rolled back.

    Outside of a transaction the call is made at once: the statement before it has committed by itself.

    Args:
        call: must not raise, for its transaction is committed already.
        arguments: hashable; the same call with equal arguments is made once a transaction.
    """
    unit: UnitOfWork | None = getattr(_current, "unit", None)
    if unit is None:
        call(*arguments)
    else:
        unit.add(call, *arguments)
