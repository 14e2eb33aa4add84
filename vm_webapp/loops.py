"""Something done again and again on a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

log = logging.getLogger(__name__)


class Loop:
    """Calls a function again and again, on a daemon thread that outlives whatever the function raises.

    Args:
        name: the thread's name; the log tells of errors under it.
        run_once: what is done. An error that it raises is logged.
        every_seconds: from the beginning of one call to that of the next; a call that takes longer is followed at once.
        around: makes what surrounds all calls on the thread, such as a connection of its own.
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
        self._every_seconds = every_seconds
        self._around = around
        self._thread: threading.Thread | None = None
        self._process: int | None = None
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._ending = False
        self._once_more = False

    def start(self) -> None:
        """Start the thread, unless it runs. A process that was forked has this object and not its thread.

        A loop that was stopped stays so.
        """
        with self._starting:
            if self._process == os.getpid() and self._thread is not None and self._thread.is_alive():
                return
            assert not self._ending, f"the loop {self._name} was stopped"
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._process = os.getpid()
            self._thread.start()

    def wake(self) -> None:
        """Begin the next call now."""
        self._wake.set()

    def stop(self, seconds: float, *, once_more: bool = False) -> None:
        """End the loop, and wait for it at most so long: a call that hangs keeps a daemon thread and nothing else.

        Args:
            seconds: how long to wait.
            once_more: end after one more call instead of after the one under way.
        """
        self._once_more, self._ending = once_more, True
        self._wake.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            with self._around():
                while not self._ending:
                    began = time.monotonic()
                    self._call()
                    self._wake.wait(max(0.0, self._every_seconds - (time.monotonic() - began)))
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
            log.exception("loop.failed", extra={"loop": self._name})
