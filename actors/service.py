"""What makes a Dramatiq worker one of ours, as a middleware: the stock ``dramatiq actors`` command gets it too.

Before the worker boots it opens what the worker needs; the pulse then starts taking work; a shutdown drains first.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, cast
from uuid import UUID

from dramatiq.broker import Broker
from dramatiq.middleware import Middleware

from actors.signals import ignore_echoes
from vm_webapp.errors import VMError, first_line
from vm_webapp.logs import configure_logging
from vm_webapp.runs.due import DueStages, find_due
from vm_webapp.settings import Settings, read_settings

if TYPE_CHECKING:
    from dramatiq import Worker

    from actors.broker import HintBroker
    from actors.runtime import WorkerRuntime

log = logging.getLogger(__name__)

RELEASE_SECONDS = 10.0
EXIT_FAILED = 1
EXIT_WRONG_CONFIGURATION = 2


class WorkerService(Middleware):
    """Opens the runtime with the worker and drains it at the end.

    Attributes:
        poll_seconds: how often an idle worker asks PostgreSQL for due stages.
    """

    def __init__(self) -> None:
        self.poll_seconds = 0.5
        self._settings: Settings | None = None
        self._runtime: WorkerRuntime | None = None

    @property
    def runtime(self) -> WorkerRuntime:
        """What this process has open; there is one from the worker's boot to its shutdown."""
        assert self._runtime is not None, "actors run in a worker that has booted"
        return self._runtime

    @property
    def takes_work(self) -> bool:
        """Whether stages may be claimed: neither starting nor draining."""
        return self._runtime is not None and self._runtime.takes_work

    @property
    def deaf(self) -> bool:
        """Whether a thread of the worker died, so that the process must be replaced."""
        return self._runtime is not None and self._runtime.pulse.deaf

    def configure(self, settings: Settings, *, poll_seconds: float) -> None:
        """Set what the process was started with; without this, the environment decides at boot."""
        self._settings = settings
        self.poll_seconds = poll_seconds

    def find_due(self, limit: int, *, without: list[UUID]) -> DueStages:
        """Return stages that this worker could claim now."""
        claimant = self.runtime.runner.claimant
        return find_due(claimant.provider, limit, cap=claimant.cap, without=without)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Open the runtime.

        Raises:
            SystemExit: it cannot start; one line on stderr says why. Dramatiq would swallow any other exception.
        """
        # Here, because a process that only sends hints has no use for model clients and all the rest.
        from actors.runtime import open_runtime

        # What is prefetched counts as work in progress, so nothing is hoarded beyond the threads there are.
        worker.queue_prefetch = worker.worker_threads
        if self._is_stock:
            ignore_echoes(signal.SIGTERM, signal.SIGHUP)
        try:
            settings = self._settings or _settings_from_environment()
            self._runtime = open_runtime(
                settings,
                cast("HintBroker", broker),
                threads=worker.worker_threads,
                threads_alive=lambda: _all_alive(worker),
                on_deaf=lambda: os.kill(os.getpid(), signal.SIGTERM),
            )
        except VMError as error:
            sys.stderr.write(f"vm_webapp: {error}\n")
            raise SystemExit(EXIT_WRONG_CONFIGURATION) from error
        except Exception as error:
            log.debug("worker.crashed_at_start", exc_info=True)
            sys.stderr.write(f"vm_webapp: the worker cannot start: {type(error).__name__}: {first_line(error)}\n")
            raise SystemExit(EXIT_WRONG_CONFIGURATION) from error

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start the pulse, now that there are threads to speak for."""
        try:
            self.runtime.pulse.start()
        except Exception as error:
            log.exception("worker.crashed_at_start")
            raise SystemExit(EXIT_FAILED) from error

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Drain: take nothing more, let calls in flight finish, hand back the rest."""
        runtime = self.runtime
        runtime.runner.draining.set()
        runtime.pulse.announce("draining")
        # A call of a loop that died or hangs never ends by itself.
        if not runtime.runner.wait_until_idle(runtime.drain_seconds if runtime.calls.alive() else 0.0):
            log.info("worker.releasing", extra={"stages": runtime.runner.leases.abandon_all()})
            runtime.runner.wait_until_idle(RELEASE_SECONDS)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Say goodbye and close everything, the embedded servers last.

        Raises:
            SystemExit: a thread had died under the stock command, which would report success.
        """
        deaf = self.deaf
        self.runtime.close()
        self._runtime = None
        if deaf and self._is_stock:
            raise SystemExit(EXIT_FAILED)

    @property
    def _is_stock(self) -> bool:
        """Whether Dramatiq's own command runs this worker: nobody has configured it."""
        return self._settings is None


def _settings_from_environment() -> Settings:
    settings = read_settings()
    configure_logging(settings.log_level, json=settings.managed)
    return settings


def _all_alive(worker: Worker) -> bool:
    return all(thread.is_alive() for thread in (*worker.workers, *worker.consumers.values()))
