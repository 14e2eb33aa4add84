"""A worker process: a Dramatiq worker started from code, with signal handling and an exit code."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from dramatiq import Worker

from actors.app import broker, middleware
from actors.process_signals import ignore_echoes
from vm_webapp.parents import Parents, drain_without
from vm_webapp.settings import Settings

log = logging.getLogger(__name__)

IDLE_TIMEOUT_MS = 250
CHECK_SECONDS = 0.2


class StopSignals:
    """Handles SIGTERM and SIGINT. The first starts a drain, copies within two seconds do nothing, a later exits."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)
        ignore_echoes(signal.SIGTERM, signal.SIGINT)

    def asked(self) -> bool:
        """Return whether a signal has come."""
        return self._asked

    def wait(self) -> None:
        """Return after the first signal."""
        # Not a threading.Event: a handler that interrupts ``wait`` and calls ``set`` deadlocks on the event's own lock.
        while not self._asked:
            time.sleep(CHECK_SECONDS)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            os._exit(1)
        self._asked = True


def run_worker(
    settings: Settings,
    *,
    poll_seconds: float,
    until_stdin_closes: bool,
    parents: Parents,
    on_started: Callable[[], object] = bool,
) -> int:
    """Run a worker until a signal asks it to stop, then drain it.

    Args:
        settings: read from the environment.
        poll_seconds: how often an idle worker polls PostgreSQL for due stages.
        until_stdin_closes: stop also when standard input ends, which happens when the parent process dies.
        parents: stop also when one of them ends.
        on_started: called once the worker runs.

    Returns:
        The exit code: 0, or 1 when the worker was unhealthy.
    """
    middleware.configure(settings, poll_seconds=poll_seconds)
    signals = StopSignals()
    if until_stdin_closes:
        threading.Thread(target=_watch_stdin, daemon=True).start()
    worker = Worker(broker, worker_threads=settings.worker_threads, worker_timeout=IDLE_TIMEOUT_MS)
    worker.start()
    on_started()
    drain_without(parents, unless=signals.asked)
    signals.wait()
    unhealthy = middleware.unhealthy  # read before ``stop``, which closes the runtime
    try:
        # This time-out starts after the drain, which the middleware runs first.
        worker.stop(timeout=15_000)
    except Exception:
        log.exception("worker.stop_failed")
        return 1
    log.info("worker.stopped")
    return 1 if unhealthy else 0


def _watch_stdin() -> None:
    # Not ``sys.stdin.read``: the interpreter aborts at exit if a daemon thread holds the lock of its buffer.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
