"""Says that a run has new events, once they are committed. Whoever follows runs may be woken sooner by it.

Nothing depends on it: followers look by themselves once a second.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from vm_webapp.db.pool import after_commit

CHANNEL = "vm:run:"

Wake = Callable[[UUID], object]
_wake: Wake | None = None


def channel_of(run_id: UUID) -> str:
    """Return the Redis channel on which a run's followers are woken and told of its progress."""
    return f"{CHANNEL}{run_id}"


def connect(wake: Wake | None) -> None:
    """Set what is called with a run's id after each commit that added events; None for nothing."""
    global _wake
    _wake = wake


def wake_after_commit(run_id: UUID) -> None:
    """Tell the followers of a run when the current transaction is committed."""
    wake = _wake
    if wake is not None:
        after_commit(lambda: wake(run_id))
