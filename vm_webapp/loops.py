"""Calls a function periodically on a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from peewee import DatabaseError

from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.metrics import LOOP_ERRORS
from vm_webapp.text import shortened

log = logging.getLogger(__name__)


def noting_outages(run_once: Callable[[], object], log: logging.Logger, event: str) -> Callable[[], None]:
    """Return a function for a loop that needs the database: an outage is logged once, when it begins.

    Args:
        run_once: the function.
        log: where the outage is logged.
        event: as what; an outage has other consequences that say more.
    """
    is_noted = False

    def run() -> None:
        nonlocal is_noted
        try:
            run_once()
        except (DatabaseUnavailable, DatabaseError) as error:
            if not is_noted:
                log.warning(event, extra={"error": shortened(error)})
            is_noted = True
        else:
            is_noted = False

    return run


class Loop:
    """Calls a function periodically, on a daemon thread that survives every exception of the function.

    Args:
        name: the thread's name; errors are logged with it.
        run_once: the function. An exception that it raises is logged.
        every_seconds: from the start of one call to the start of the next; a call that takes longer is followed by
            the next one at once.
        around: returns a context manager that is entered on the thread around all calls, such as a connection.

    Attributes:
        every_seconds: as given; the function may change it.
    """

    def __init__(
        self,
        name: str,
        run_once: Callable[[], object],
        *,
        every_seconds: float,
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._name = name
        self._run_once = run_once
        self.every_seconds = every_seconds
        self._around = around
        self._thread: threading.Thread | None = None
        self._process: int | None = None
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._ending = False
        self._once_more = False

    def start(self) -> None:
        """Start the thread, unless it runs. A loop that was stopped cannot be started again."""
        with self._starting:
            # A forked process has a copy of this object, but not its thread; ``is_alive`` alone could be wrong there.
            if self._process == os.getpid() and self._thread is not None and self._thread.is_alive():
                return
            assert not self._ending, f"the loop {self._name} was stopped"
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._process = os.getpid()
            self._thread.start()

    def wake(self) -> None:
        """Make the next call now, or, during a call, right after it."""
        self._wake.set()

    def stop(self, seconds: float, *, once_more: bool = False) -> bool:
        """End the loop and wait for its thread. A call that hangs leaves only a daemon thread behind.

        Args:
            seconds: the longest wait.
            once_more: make one more call after the current one.

        Returns:
            Whether the thread has ended.
        """
        # Together, before the wake-up: the thread reads ``_once_more`` only after it has seen ``_ending``.
        self._once_more, self._ending = once_more, True
        self._wake.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with self._around():
                while not self._ending:
                    began = time.monotonic()
                    self._call()
                    self._wake.wait(max(0.0, self.every_seconds - (time.monotonic() - began)))
                    # Cleared after the wait, not before: a wake-up that came during the call must not be lost.
                    self._wake.clear()
                if self._once_more:
                    self._call()
        except BaseException:
            log.exception("loop.ended", extra={"loop": self._name})
            raise

    def _call(self) -> None:
        try:
            self._run_once()
        except Exception:
            LOOP_ERRORS.inc()
            log.exception("loop.failed", extra={"loop": self._name})
