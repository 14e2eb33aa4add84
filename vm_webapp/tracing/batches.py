"""Sends spans in batches from a thread of its own, and drops what a slow or missing collector does not take."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from vm_webapp.tracing.spans import Span

log = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
BATCH = 512
MOST_WAITING = 4096  # spans; about 4 MB
RETRY_SECONDS = 5.0
CLOSE_SECONDS = 0.8  # no shutdown is delayed by a second


class NotSent(Exception):
    """The collector did not take a batch.

    Args:
        message: why, in one line without secrets.
        retryable: whether the same batch may be taken later.
    """

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class Batches:
    """A bounded queue of spans, and the thread that sends them.

    Args:
        send: sends a batch; it raises ``NotSent``, and takes a bounded time.

    Attributes:
        dropped: how many spans were dropped so far.
    """

    def __init__(self, send: Callable[[Sequence[Span]], object]) -> None:
        self._send = send
        self._waiting: deque[Span] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._failing = False
        self.dropped = 0
        # A daemon: a collector that hangs must not keep the process.
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def add(self, span: Span) -> None:
        """Take a span that has ended; never blocks and never raises."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(span)
        if len(self._waiting) == BATCH and not self._failing:
            self._wake.set()

    def close(self) -> None:
        """Send what waits, for less than a second."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(EVERY_SECONDS)
            self._wake.clear()
            while self._waiting and self.send_once():
                pass
            if self._failing:
                self._closing.wait(RETRY_SECONDS)
        while self._waiting and self.send_once():
            pass

    def send_once(self) -> bool:
        """Send one batch; return whether the collector took it."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        try:
            self._send(batch)
        except NotSent as error:
            self._keep_or_drop(batch, keep=error.retryable)
            self._note_failure(str(error))
            return False
        except Exception as error:  # the thread must not die of it: nothing would be sent any more, and nothing said
            self.dropped += len(batch)
            self._note_failure(type(error).__name__)
            return False
        if self._failing:
            self._failing = False
            log.info("traces.sent_again", extra={"dropped": self.dropped})
        return True

    def _keep_or_drop(self, batch: list[Span], *, keep: bool) -> None:
        if keep and len(self._waiting) + len(batch) <= MOST_WAITING:
            self._waiting.extendleft(reversed(batch))
        else:
            self.dropped += len(batch)

    def _note_failure(self, error: str) -> None:
        if not self._failing:  # said once for each outage
            self._failing = True
            log.warning("traces.not_sent", extra={"error": error})
