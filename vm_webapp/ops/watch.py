"""Keeps a verdict at hand, so that a probe costs nothing and one bad moment changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from vm_webapp.loops import Loop

INTERVAL_SECONDS = 1.0
STALE_SECONDS = 3.0
STOP_SECONDS = 1.0


class Verdict(Protocol):
    """What is watched."""

    @property
    def ready(self) -> bool:
        """Whether work can progress."""


AVerdict = TypeVar("AVerdict", bound=Verdict)


class Watch(Generic[AVerdict]):
    """Checks once a second and shows the last verdict; it changes sides only when two checks in a row say so.

    Args:
        check: looks at everything once; may hang.
        unanswered: makes the verdict to show when a check hangs.
        clock: monotonic seconds.
    """

    def __init__(
        self, check: Callable[[], AVerdict], unanswered: Callable[[], AVerdict], clock: Callable[[], float]
    ) -> None:
        self._check = check
        self._unanswered = unanswered
        self._clock = clock
        self._shown: AVerdict | None = None
        self._shown_at = 0.0
        self._doubted = False
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Check on a thread of its own for as long as the block lasts.

        Where a check crashes, what is shown grows stale, and stale is not ready.
        """
        loop = Loop("health-watch", self.check_once, every_seconds=INTERVAL_SECONDS)
        loop.start()
        try:
            yield
        finally:
            loop.stop(STOP_SECONDS)

    def latest(self) -> AVerdict | None:
        """Return the verdict to show, never a good one that is older than three seconds; None before the first."""
        with self._lock:
            self._note_staleness()
            return self._shown

    def check_once(self) -> None:
        """Check, and show what came of it.

        A good verdict that took longer than a verdict may be old is dropped: its facts are from before it hung.
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

    def _note_staleness(self) -> None:
        # A bad verdict stays: it has the better reason.
        if self._shown is not None and self._shown.ready and self._clock() - self._shown_at > STALE_SECONDS:
            self._shown, self._doubted = self._unanswered(), False
