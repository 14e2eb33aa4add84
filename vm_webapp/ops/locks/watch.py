"""Follows the locks that hold this program up from one check to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vm_webapp.db.together import Ask
from vm_webapp.ops.locks.found import OLD_SECONDS, find_locks, find_locks_on_due_stages, still_in_a_transaction
from vm_webapp.ops.locks.session import Lock

# A session of ours waits a few seconds for a row, gives up, and comes back: meanwhile nobody waits for it.
ROW_SECONDS = 6.0
# After a lock has ended, workers need a moment until their heartbeats are fresh and due stages claimed.
RECOVERY_SECONDS = 5.0
NAMED = 3
YOUNG_SECONDS = 1


class LockWatch:
    """The locks that hold this program up now, and those that did a moment ago.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, int], tuple[Lock, float]] = {}
        self._held_up_workers: tuple[float, str] | None = None

    def look(self, *, waited_in_vain: bool = False) -> tuple[Lock, ...]:
        """Return them, inside the current transaction; those that stop work come first.

        Args:
            waited_in_vain: whether a statement has just waited for more than a second, so that a lock may be younger.
        """
        return self._note(find_locks(old_seconds=YOUNG_SECONDS if waited_in_vain else OLD_SECONDS))

    def glance(self, ask: Ask) -> bool:
        """Return whether nothing holds this program up, nor did a moment ago.

        Args:
            ask: has read ``WHERE_NONE_IS_HELD``.

        Raises:
            NotRead: something may.
        """
        return not find_locks(ask=ask) and not self._seen

    def look_at_queue(self) -> tuple[Lock, ...]:
        """Return the locks for which due stages are not claimed, inside the current transaction; it reads the queue."""
        return self._note(find_locks_on_due_stages())

    def why_workers_are_late(self) -> str:
        """Return why workers may still be silent or claim nothing after a lock; empty if no lock has just ended."""
        if self._held_up_workers is None or self._clock() - self._held_up_workers[0] > RECOVERY_SECONDS:
            return ""
        return f"{self._held_up_workers[1]} held workers up until a moment ago: wait a few seconds"

    def _note(self, found: Iterable[Lock]) -> tuple[Lock, ...]:
        now = self._clock()
        self._seen = self._lasting(now) | {(lock.what, lock.holder.pid): (lock, now) for lock in found}
        locks = tuple(lock for lock, _ in self._seen.values())
        if any(lock.holds_up_workers for lock in locks):
            self._held_up_workers = now, next(lock.what for lock in locks if lock.holds_up_workers)
        return tuple(sorted(locks, key=lambda lock: not lock.stops_work))

    def _lasting(self, now: float) -> dict[tuple[str, int], tuple[Lock, float]]:
        """Return the locks of rows that were seen lately and whose transaction has not ended."""
        rows = {
            key: (lock, at) for key, (lock, at) in self._seen.items() if lock.mode == "row" and now - at <= ROW_SECONDS
        }
        if not rows:
            return {}
        open_still = still_in_a_transaction(pid for _, pid in rows)
        return {key: seen for key, seen in rows.items() if key[1] in open_still}


def name_locks(locks: Iterable[Lock]) -> str:
    """Return a subject and its verb, such as ``a lock on the table runs holds``; at most three locks are named."""
    names = list(dict.fromkeys(lock.what for lock in locks))
    if len(names) == 1:
        return f"{names[0]} holds"
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    *parts, last = [*names[:NAMED], *more]
    return f"{', '.join(parts)} and {last} hold"
