"""A worker process: a programmatic Dramatiq worker with signals and an exit code."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import FrameType

from dramatiq import Worker

from actors.app import broker, middleware
from actors.process_signals import ignore_echoes
from vm_webapp.settings import Settings

log = logging.getLogger(__name__)

IDLE_TIMEOUT_MS = 250
LOOK_SECONDS = 0.2


class StopSignals:
    """The first signal asks for a drain; one within two seconds is the same signal; a later one exits at once."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)
        ignore_echoes(signal.SIGTERM, signal.SIGINT)

    def wait(self) -> None:
        """Return after the first signal."""
        # No event: setting one in a handler that interrupts its own wait would lock up.
        while not self._asked:
            time.sleep(LOOK_SECONDS)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            os._exit(1)
        self._asked = True


def run_worker(settings: Settings, *, poll_seconds: float, until_stdin_closes: bool) -> int:
    """Run a worker until a signal asks it to stop, then drain it.

    Args:
        settings: what the environment says.
        poll_seconds: how often an idle worker asks PostgreSQL for due stages.
        until_stdin_closes: stop as well when standard input ends, which tells that the parent has died.

    Returns:
        The exit code: 0, or 1 when the worker was unhealthy.
    """
    middleware.configure(settings, poll_seconds=poll_seconds)
    signals = StopSignals()
    if until_stdin_closes:
        threading.Thread(target=_watch_stdin, daemon=True).start()
    worker = Worker(broker, worker_threads=settings.worker_threads, worker_timeout=IDLE_TIMEOUT_MS)
    worker.start()
    signals.wait()
    unhealthy = middleware.unhealthy
    try:
        worker.stop(timeout=15_000)
    except Exception:
        log.exception("worker.stop_failed")
        return 1
    log.info("worker.stopped")
    return 1 if unhealthy else 0


def _watch_stdin() -> None:
    # Unbuffered: a thread that sleeps inside sys.stdin's lock makes the interpreter abort when it ends.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
