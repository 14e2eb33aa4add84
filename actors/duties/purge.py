"""Deletes rows that are too old to keep, in short batches. Every worker does: they find different rows to delete."""

from __future__ import annotations

import threading
from datetime import timedelta

from vm_webapp.access.audit import retention
from vm_webapp.access.keys import purge_old_keys
from vm_webapp.access.rate_windows import purge_old_windows
from vm_webapp.access.sessions import purge_old_sessions
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.fleet.heartbeats import purge_stopped_workers
from vm_webapp.fleet.process_metrics import purge_old_samples
from vm_webapp.idempotency import PURGE_BATCH, purge_expired_keys
from vm_webapp.ops.queue_history import purge_old_history, purge_old_scale_calls
from vm_webapp.ops.retention import BATCH, purge_batch
from vm_webapp.ops.snapshot_purge import BATCH as SNAPSHOTS_BATCH
from vm_webapp.ops.snapshot_purge import purge_snapshots


class PurgeLeftovers:
    """Deletes old rows that serve no longer.

    They are heartbeats, metrics of processes that are gone, API keys, sessions, counters of past minutes, the queue's
    figures of past days, calls that scaled workers, snapshots to which no run refers, and expired idempotency keys.
    """

    def run_once(self) -> bool:
        """Delete a batch.

        Returns:
            Whether more may be left.

        Raises:
            DatabaseUnavailable: not all of it was deleted.
        """
        purge_stopped_workers()
        more_samples = purge_old_samples()
        purge_old_keys()
        purge_old_windows()
        purge_old_sessions()
        purge_old_history()
        purge_old_scale_calls()
        more_snapshots = purge_snapshots() == SNAPSHOTS_BATCH
        return purge_expired_keys() == PURGE_BATCH or more_samples or more_snapshots


class PurgeRuns:
    """Deletes finished runs that are older than a limit.

    Args:
        older_than: the limit; None keeps all runs.
        mirror: this machine's copies of their artifacts.
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
        # Stays halved if the delete raises: a batch that exceeds the statement time-out is tried in smaller ones.
        self._batch = max(1, size // 2)
        deleted = purge_batch(self._older_than, limit=size)
        self._batch = size
        if deleted and self._mirror:
            # On another thread: a disk that hangs would block the pulse, and the worker would lose its leases.
            threading.Thread(target=self._mirror.remove, args=(deleted,), name="mirror", daemon=True).start()
        return len(deleted) == size


class PurgeAudit:
    """Removes the oldest entries of the audit trail, if they are sealed and older than a limit.

    Args:
        keep: the limit; None keeps all entries.
    """

    def __init__(self, keep: timedelta | None) -> None:
        self._keep = keep

    def run_once(self) -> bool:
        """Remove a batch.

        Returns:
            Whether more may be left.

        Raises:
            DatabaseUnavailable: nothing was removed.
        """
        return self._keep is not None and retention.prune_batch(self._keep) == retention.BATCH
