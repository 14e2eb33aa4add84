"""Deletes what is too old to be kept, a short batch at a time. Every worker does: what one deletes, no other finds."""

from __future__ import annotations

import threading
from datetime import timedelta

from vm_webapp.access.keys import purge_dead_keys
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.fleet.heartbeats import purge_stopped_workers
from vm_webapp.idempotency import PURGE_BATCH, purge_expired_keys
from vm_webapp.ops.retention import BATCH, purge_batch


class PurgeLeftovers:
    """Deletes the rows of workers that are gone, dead API keys and expired idempotency keys."""

    def run_once(self) -> bool:
        """Delete a batch.

        Returns:
            Whether more may be left.

        Raises:
            DatabaseUnavailable: not all of it was deleted.
        """
        purge_stopped_workers()
        purge_dead_keys()
        return purge_expired_keys() == PURGE_BATCH


class PurgeRuns:
    """Deletes finished runs that are old enough.

    Args:
        older_than: from which age on, None to keep them all.
        mirror: where this machine's copies of their documents are.
    """

    def __init__(self, older_than: timedelta | None, mirror: ArtifactMirror | None = None) -> None:
        self._older_than = older_than
        self._mirror = mirror
        self._batch = BATCH

    def run_once(self) -> bool:
        """Delete a batch.

        Returns:
            Whether more may be left.

        Raises:
            DatabaseUnavailable: nothing was deleted.
        """
        if self._older_than is None:
            return False
        size = self._batch
        self._batch = max(1, size // 2)  # what takes longer than a statement may is tried in smaller pieces
        deleted = purge_batch(self._older_than, limit=size)
        self._batch = size
        if deleted and self._mirror:
            # On a thread of its own: a disk that hangs must not cost this worker its leases.
            threading.Thread(target=self._mirror.remove, args=(deleted,), name="mirror", daemon=True).start()
        return len(deleted) == size
