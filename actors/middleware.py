"""The Dramatiq middleware that runs our worker in any Dramatiq worker process, the stock ``dramatiq actors`` included.

Before the worker boots, it opens what the worker needs. After the boot, it starts the pulse (the worker's maintenance
loop), which lets the worker take work once the schema fits. Before a shutdown, it drains the worker.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Protocol

from dramatiq import Worker
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware

from actors.process_signals import ignore_echoes
from vm_webapp.core_files import forbid_core_files
from vm_webapp.errors import VMError
from vm_webapp.logs import configure_logging
from vm_webapp.runs.lifecycle import Claim, ClaimedStages
from vm_webapp.settings import Settings, read_settings
from vm_webapp.text import first_line

log = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_WRONG_CONFIGURATION = 2


class Runtime(Protocol):
    """Everything that a worker process keeps open from its boot to its shutdown."""

    @property
    def takes_work(self) -> bool:
        """Whether stages may be claimed: the worker is neither starting nor draining."""

    @property
    def unhealthy(self) -> bool:
        """Whether a thread of the worker has died or hangs, so that the process must be replaced."""

    def start(self) -> None:
        """Start the pulse."""

    def claim(self, at_most: int) -> ClaimedStages:
        """Claim due stages."""

    def release(self, claims: Iterable[Claim]) -> None:
        """Release stages that no thread has begun."""

    def run_stage(self, claim: Claim) -> int:
        """Execute a stage and those that follow in its run; return how many stages were executed."""

    def count(self, name: str) -> None:
        """Add one to a counter that the heartbeat reports."""

    def drain(self) -> None:
        """Stop claiming, let calls in flight finish, and release the stages that do not finish in time."""

    def close(self) -> None:
        """Write the last heartbeat, ``stopped``, and close everything."""


OpenRuntime = Callable[..., Runtime]


class WorkerMiddleware(Middleware):
    """Opens the runtime when the worker boots, drains it before the shutdown and closes it afterwards.

    Args:
        open_runtime: called with the settings and, by keyword, ``threads``, ``find_dead_thread``
            and ``on_unhealthy``. It raises a ``VMError`` for a wrong configuration.

    Attributes:
        poll_seconds: how often an idle worker polls PostgreSQL for due stages.
    """

    def __init__(self, open_runtime: OpenRuntime) -> None:
        self.poll_seconds = 0.5
        self._open_runtime = open_runtime
        self._settings: Settings | None = None
        self._runtime: Runtime | None = None

    @property
    def runtime(self) -> Runtime:
        """The runtime of this process, from the worker's boot to its shutdown."""
        assert self._runtime is not None, "actors run in a worker that has booted"
        return self._runtime

    @property
    def booted(self) -> bool:
        """Whether there is a runtime."""
        return self._runtime is not None

    @property
    def takes_work(self) -> bool:
        """Whether stages may be claimed: the worker is neither starting nor draining."""
        return self._runtime is not None and self._runtime.takes_work

    @property
    def unhealthy(self) -> bool:
        """Whether a thread of the worker has died or hangs, so that the process must be replaced."""
        return self._runtime is not None and self._runtime.unhealthy

    def configure(self, settings: Settings | None, *, poll_seconds: float) -> None:
        """Set the options that the process was started with.

        Args:
            settings: None, which is also the default, reads the environment at boot, as the stock command needs.
            poll_seconds: how often an idle worker polls PostgreSQL for due stages.
        """
        self._settings = settings
        self.poll_seconds = poll_seconds

    def claim(self, at_most: int) -> ClaimedStages:
        """Claim due stages."""
        return self.runtime.claim(at_most)

    def release(self, claims: Iterable[Claim]) -> None:
        """Release stages that no thread has begun. After the shutdown, their leases end by themselves."""
        if self._runtime is not None:
            self._runtime.release(claims)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Open the runtime.

        Raises:
            SystemExit: the worker cannot start; one line on stderr says why.
        """
        # Dramatiq counts work in progress as prefetched. With the default, twice the threads, a worker would hoard
        # messages that other workers could run.
        worker.queue_prefetch = worker.worker_threads
        if self._is_stock:
            ignore_echoes(signal.SIGTERM, signal.SIGHUP)
        try:
            self._runtime = self._open_runtime(
                self._settings or _settings_from_environment(),
                threads=worker.worker_threads,
                find_dead_thread=lambda: _find_dead_thread(worker),
                on_unhealthy=lambda: os.kill(os.getpid(), signal.SIGTERM),
            )
        # Dramatiq swallows whatever a middleware raises, except SystemExit: the worker would run without a runtime.
        except VMError as error:
            sys.stderr.write(f"vm_webapp: {error}\n")
            raise SystemExit(EXIT_WRONG_CONFIGURATION) from error
        except Exception as error:
            log.debug("worker.crashed_at_start", exc_info=True)
            sys.stderr.write(f"vm_webapp: the worker cannot start: {type(error).__name__}: {first_line(error)}\n")
            raise SystemExit(EXIT_WRONG_CONFIGURATION) from error

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start the pulse, now that the worker's threads exist, which it checks."""
        try:
            self.runtime.start()
        except Exception as error:
            log.exception("worker.crashed_at_start")
            raise SystemExit(EXIT_FAILED) from error

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Drain."""
        self.runtime.drain()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Say goodbye and close everything, the embedded servers last.

        Raises:
            SystemExit: the worker was unhealthy; the stock command would report success.
        """
        unhealthy = self.unhealthy
        self.runtime.close()
        self._runtime = None
        if unhealthy and self._is_stock:
            raise SystemExit(EXIT_FAILED)

    @property
    def _is_stock(self) -> bool:
        """Whether Dramatiq's own command runs this worker: ``configure`` was not called."""
        return self._settings is None


def _settings_from_environment() -> Settings:
    forbid_core_files()
    settings = read_settings()
    configure_logging(settings.log_level, json=settings.managed)
    return settings


def _find_dead_thread(worker: Worker) -> str:
    """Return which kind of Dramatiq's threads has died, empty when all of them live."""
    # Dramatiq never restarts a thread that died, and goes on without it.
    if not all(thread.is_alive() for thread in worker.consumers.values()):
        return "a consumer thread died"
    if not all(thread.is_alive() for thread in worker.workers):
        return "a worker thread died"
    return ""
