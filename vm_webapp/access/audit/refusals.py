"""Records refused attempts: outside of any transaction, never on the caller's time, and no more than a flood is worth.

Of one address and reason at most ten are recorded in a minute; what comes on top is one entry with its count when the
minute is over. Addresses that do not fit into the memory set aside for them share one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from vm_webapp.access.audit.entries import ACTOR_COLUMNS
from vm_webapp.db.pool import autocommit, execute, jsonb

log = logging.getLogger(__name__)

ACTION = "request.refused"
MOST_A_MINUTE = 10
WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 1000
MOST_WAITING = 1000
OTHERS = "others"
"""The address of all for whom there was no more room."""
STOP_SECONDS = 5.0

_ADD = f"""
    INSERT INTO audit_entries ({ACTOR_COLUMNS}, action, target, result, data)
    SELECT actor, actor_id, role, address, request_id, %(action)s, target, 'refused', data
      FROM unnest(%(actors)s::text[], %(actor_ids)s::text[], %(roles)s::text[], %(addresses)s::text[],
                  %(request_ids)s::text[], %(targets)s::text[], %(data)s::jsonb[])
           WITH ORDINALITY AS added(actor, actor_id, role, address, request_id, target, data, number)
     ORDER BY number
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused attempt.

    Attributes:
        reason: why, as a word: ``unauthorized``, ``forbidden``.
        address: where it came from.
        target: the operation, never a path as it was sent: that may hold anything.
        count: how many attempts it stands for.
    """

    reason: str
    address: str
    target: str | None = None
    actor: str = "anonymous"
    actor_id: str | None = None
    role: str | None = None
    request_id: str | None = None
    count: int = 1


@dataclass
class _Window:
    """The refusals of one address and reason since ``began``."""

    began: float
    recorded: int = 0
    more: int = 0


@dataclass
class RefusalCounts:
    """Decides which refusals are recorded one by one. It has no clock of its own; times are in monotonic seconds."""

    _windows: dict[tuple[str, str], _Window] = field(default_factory=dict)

    def admit(self, refusal: Refusal, now: float, *, room: bool = True) -> Refusal | None:
        """Count a refusal.

        Args:
            refusal: what was refused.
            now: the time.
            room: False where there is no room for another that waits to be written: then it is only counted.

        Returns:
            What to record of it, None if it is only counted.
        """
        window, address = self._window(refusal, now)
        if window.recorded >= MOST_A_MINUTE or not room:
            window.more += 1
            return None
        window.recorded += 1
        return replace(refusal, address=address)

    def take_over(self, now: float = math.inf) -> list[Refusal]:
        """Return one refusal with a count for each window that has ended and counted more than it recorded."""
        ended = [key for key, window in self._windows.items() if now - window.began >= WINDOW_SECONDS]
        taken = [(key, self._windows.pop(key)) for key in ended]
        return [Refusal(key[0], key[1], count=window.more) for key, window in taken if window.more]

    def seconds_left(self, now: float) -> float | None:
        """Return after how many seconds ``take_over`` has something to do; None if nothing is counted."""
        began = min((window.began for window in self._windows.values()), default=None)
        return None if began is None else max(0.0, began + WINDOW_SECONDS - now)

    def _window(self, refusal: Refusal, now: float) -> tuple[_Window, str]:
        address = refusal.address
        if (refusal.reason, address) not in self._windows and len(self._windows) >= MOST_ADDRESSES:
            address = OTHERS
        return self._windows.setdefault((refusal.reason, address), _Window(now)), address


class RefusalLog:
    """Writes refusals from a thread of its own, which ends when there is nothing left to write or to count.

    Args:
        write: writes refusals to the audit trail; raises where it cannot.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Refusal]], object] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write or write_refusals
        self._clock = clock
        self._counts = RefusalCounts()
        self._waiting: list[Refusal] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def note(self, refusal: Refusal) -> None:
        """Record a refusal soon. It takes microseconds: it waits neither for the database nor for its writer."""
        with self._changed:
            room = len(self._waiting) < MOST_WAITING
            admitted = self._counts.admit(refusal, self._clock(), room=room)
            if admitted is not None:
                self._waiting.append(admitted)
                self._changed.notify()
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Write what is left, the counts of minutes that are not over included."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify()
        if thread is not None:
            thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while (refusals := self._take()) is not None:
            if refusals:
                self._write_or_log(refusals)

    def _take(self) -> list[Refusal] | None:
        """Wait for refusals and return them; None when the thread is to end."""
        with self._changed:
            now = self._clock()
            while not self._waiting and not self._closed:
                left = self._counts.seconds_left(now)
                if left is None:
                    self._thread = None
                    return None
                if left <= 0:
                    break
                self._changed.wait(left)
                now = self._clock()
            taken = self._waiting + self._counts.take_over(math.inf if self._closed else now)
            self._waiting = []
            if self._closed and not taken:
                return None
            return taken

    def _write_or_log(self, refusals: Sequence[Refusal]) -> None:
        try:
            self._write(refusals)
        except Exception as error:
            # Whatever it is: an attempt that is recorded nowhere is worse than a line too many.
            log.warning("audit.not_written", extra={"error": type(error).__name__})
            for refusal in refusals:
                log.warning("audit.refused", extra=asdict(refusal))


def write_refusals(refusals: Sequence[Refusal]) -> None:
    """Add an entry for each refusal, in one statement.

    Raises:
        DatabaseUnavailable: none was added, or, if the connection broke meanwhile, perhaps all were.
    """
    with autocommit():
        execute(
            _ADD,
            action=ACTION,
            actors=[each.actor for each in refusals],
            actor_ids=[each.actor_id for each in refusals],
            roles=[each.role for each in refusals],
            addresses=[each.address for each in refusals],
            request_ids=[each.request_id for each in refusals],
            targets=[each.target for each in refusals],
            data=[jsonb({"reason": each.reason, "count": each.count}) for each in refusals],
        )
