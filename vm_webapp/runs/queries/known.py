"""Runs that have been read before, so that a run that still reads the same is not put together again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import Row
from vm_webapp.runs.records import RunRecord, WaitingOn
from vm_webapp.runs.waiting import QueuedStage

MOST_RUNS = 500
LONGEST_REQUEST = 4_000  # characters; with longer ones the memory would be tens of megabytes
Digests = tuple[int, list[int] | None]


@dataclass(frozen=True, slots=True)
class Known:
    """A run as it was read.

    Attributes:
        digests: of what is shown of the run and of its stages, equal only while none of it has changed.
        record: the run; without what it waits for, where that depends on others.
        queued: its queued stage, from which that is decided.
        waiting_on: what it waits for otherwise.
    """

    digests: Digests
    record: RunRecord
    queued: QueuedStage | None
    waiting_on: WaitingOn | None


def digests_of(row: Row) -> Digests:
    """Return the digests of a run that was read."""
    return row["digest"], row["digests"]


class KnownRuns:
    """The runs that were read last, by their ids; any thread may use it."""

    def __init__(self, most: int = MOST_RUNS) -> None:
        self._most = most
        self._runs: OrderedDict[UUID, Known] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, row: Row) -> Known | None:
        """Return the run if all that is shown of it is what it was, by the digests of a row that was read now."""
        with self._lock:
            known = self._runs.get(row["id"])
            if known is None or known.digests != digests_of(row):
                return None
            self._runs.move_to_end(row["id"])
            return known

    def note(self, known: Known) -> None:
        """Keep a run in place of what was known of it."""
        if len(known.record.request) > LONGEST_REQUEST:
            return
        with self._lock:
            self._runs[known.record.id] = known
            self._runs.move_to_end(known.record.id)
            if len(self._runs) > self._most:
                self._runs.popitem(last=False)
