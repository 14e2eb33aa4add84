"""Publishes this worker's metrics."""

from __future__ import annotations

from actors.status import WorkerStatus
from vm_webapp.fleet.process_metrics import Process, Publisher
from vm_webapp.metrics import BUILD_INFO


class Publish:
    """Writes what this worker has counted into its row.

    Args:
        status: the worker's identity.
    """

    def __init__(self, status: WorkerStatus) -> None:
        BUILD_INFO.labels(status.identity.build).set(1)
        self._publisher = Publisher(Process("worker", status.identity.worker_id))

    def run_once(self) -> bool:
        """Write the row if something has changed.

        Returns:
            False: nothing is left to do.

        Raises:
            DatabaseUnavailable: it was not written.
        """
        self._publisher.publish_once()
        return False
