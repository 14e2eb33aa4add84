"""Deletes what is too old to be kept, one short batch at a time: it runs on the pulse, which must not be late."""

from __future__ import annotations

import threading
from datetime import timedelta

from vm_webapp.access.keys import purge_dead_keys
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.fleet.heartbeats import purge_stopped_workers
from vm_webapp.idempotency import PURGE_BATCH, purge_expired_keys
from vm_webapp.ops.retention import BATCH, purge_batch

HOUR, DAY = 3600.0, 86_400.0
TRY_AGAIN_SECONDS = 60.0


class Purge:
    """Deletes hourly and daily. Every worker does it: what one deletes, the others do not find.

    Args:
        purge_older_than: age from which finished runs are deleted, None to keep them all.
        mirror: where this machine's copies of their documents are.
    """

    def __init__(self, purge_older_than: timedelta | None = None, mirror: ArtifactMirror | None = None) -> None:
        self._purge_older_than = purge_older_than
        self._mirror = mirror
        self._next_hourly = 0.0
        self._next_daily = 0.0
        self._batch = BATCH

    def run_once(self, now: float) -> int:
        """Delete one batch of what is due.

        Args:
            now: the monotonic time.

        Returns:
            How many rows were deleted, not counting those that go with a run.

        Raises:
            DatabaseUnavailable: it was not done; another try comes when it is due again.
        """
        if now >= self._next_hourly:
            self._next_hourly = now + TRY_AGAIN_SECONDS
            deleted = purge_stopped_workers() + purge_dead_keys()
            expired = purge_expired_keys()
            self._next_hourly = now if expired == PURGE_BATCH else now + HOUR
            return deleted + expired
        if self._purge_older_than is not None and now >= self._next_daily:
            self._next_daily = now + TRY_AGAIN_SECONDS
            size = self._batch
            purged = self._purge(self._purge_older_than, size)
            self._next_daily = now if purged == size else now + DAY
            return purged
        return 0

    def _purge(self, older_than: timedelta, size: int) -> int:
        self._batch = max(1, size // 2)  # what takes longer than a statement may is tried in smaller pieces
        deleted = purge_batch(older_than, limit=size)
        self._batch = size
        if deleted and self._mirror:
            # On a thread of its own: a disk that hangs must not cost this worker its leases.
            threading.Thread(target=self._mirror.remove, args=(deleted,), name="mirror", daemon=True).start()
        return len(deleted)
