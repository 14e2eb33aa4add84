"""Checks health in the background, so that a probe responds at once and a single failed check changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from vm_webapp.loops import Loop

INTERVAL_SECONDS = 1.0
# Whoever starts a service waits for its first ready verdict.
STARTING_SECONDS, STARTING_INTERVAL_SECONDS = 10.0, 0.1
STALE_SECONDS = 3.0
STOP_SECONDS = 1.0


class Verdict(Protocol):
    """The result of a check."""

    @property
    def ready(self) -> bool:
        """Whether work can progress."""


AVerdict = TypeVar("AVerdict", bound=Verdict)


class Monitor(Generic[AVerdict]):
    """Checks once a second and keeps the last verdict; ready and not ready change only when two checks in a row agree.

    At a start it checks more often, until the first ready verdict or for ten seconds.

    Args:
        check: checks everything once; may hang.
        timed_out: returns the verdict to report when a check hangs.
        clock: monotonic seconds.
    """

    def __init__(
        self, check: Callable[[], AVerdict], timed_out: Callable[[], AVerdict], clock: Callable[[], float]
    ) -> None:
        self._check = check
        self._timed_out = timed_out
        self._clock = clock
        self._shown: AVerdict | None = None
        self._shown_at = 0.0
        self._doubted = False  # whether the last check disagreed with the verdict that is shown
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Check on a thread of its own for as long as the block lasts.

        If checks raise, the last verdict grows stale, and a stale ready verdict is replaced by one that is not ready.
        """
        until = self._clock() + STARTING_SECONDS

        def check() -> None:
            self.check_once()
            if self._is_ready() or self._clock() > until:
                loop.every_seconds = INTERVAL_SECONDS

        loop = Loop("health-monitor", check, every_seconds=STARTING_INTERVAL_SECONDS)
        loop.start()
        try:
            yield
        finally:
            loop.stop(STOP_SECONDS)

    def latest(self) -> AVerdict | None:
        """Return the verdict to report: ready only if it is at most three seconds old; None before the first."""
        with self._lock:
            self._note_staleness()
            return self._shown

    def check_once(self) -> None:
        """Check once, and record the verdict.

        A ready verdict whose check took longer than ``STALE_SECONDS`` is dropped: its facts are from before it hung.
        """
        began = self._clock()
        verdict = self._check()
        with self._lock:
            self._note_staleness()
            now = self._clock()
            if verdict.ready and now - began > STALE_SECONDS:
                return
            if self._shown is None or self._shown.ready == verdict.ready or self._doubted:
                self._shown, self._doubted = verdict, False
            else:
                self._doubted = True
            self._shown_at = now

    def _is_ready(self) -> bool:
        with self._lock:
            return self._shown is not None and self._shown.ready

    def _note_staleness(self) -> None:
        # A verdict that is not ready stays, however old: its reason says more than a time-out would.
        if self._shown is not None and self._shown.ready and self._clock() - self._shown_at > STALE_SECONDS:
            self._shown, self._doubted = self._timed_out(), False
