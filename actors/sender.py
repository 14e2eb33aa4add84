"""Tells Redis things on a thread of its own: whoever has one goes on at once, whatever state Redis is in."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable

import redis

from vm_webapp.circuit_breaker import CircuitBreaker

log = logging.getLogger(__name__)

SKIP_AFTER_FAILURE_SECONDS = 2.0
MOST_WAITING = 1000

Send = Callable[[], object]


class Sender:
    """A short line of things to send and the thread that empties it. They are dropped and counted, never waited for.

    Attributes:
        failed: what was not sent since the process began, skipped things included.
    """

    def __init__(self) -> None:
        self.failed = 0
        self._line: deque[Send] = deque()
        self._filled = threading.Condition()
        self._busy = False
        self._process: int | None = None
        self._redis = CircuitBreaker(SKIP_AFTER_FAILURE_SECONDS)

    def put(self, send: Send) -> None:
        """Send something soon, or drop it: Redis failed a moment ago, or too much waits already.

        Args:
            send: sends it; raises ``redis.RedisError`` when Redis does not take it.
        """
        with self._filled:
            late = self._redis.is_open or len(self._line) >= MOST_WAITING
            if late or not self._has_thread():
                self.failed += 1
                return
            self._line.append(send)
            self._filled.notify()

    def flush(self, seconds: float) -> bool:
        """Wait until everything is sent or dropped; return False when the time is over before that."""
        with self._filled:
            return self._filled.wait_for(lambda: not self._line and not self._busy, seconds)

    def _has_thread(self) -> bool:
        # A fork takes the object along and leaves the thread behind.
        if self._process != os.getpid():
            try:
                threading.Thread(target=self._run, name="redis-sender", daemon=True).start()
            except RuntimeError as error:  # no more threads for this process: the next one may be luckier
                log.warning("redis.send_failed", extra={"error": str(error), "dropped": 1})
                return False
            self._process = os.getpid()
        return True

    def _run(self) -> None:
        while True:
            with self._filled:
                self._busy = False
                self._filled.notify_all()
                self._filled.wait_for(lambda: bool(self._line))
                send, self._busy = self._line.popleft(), True
            try:
                send()
            except redis.RedisError as error:
                self._give_up_for_a_while(error)
            except Exception:
                log.exception("redis.send_crashed")

    def _give_up_for_a_while(self, error: Exception) -> None:
        with self._filled:
            self._redis.record_failure()
            dropped = 1 + len(self._line)
            self.failed += dropped
            self._line.clear()
        log.warning("redis.send_failed", extra={"error": type(error).__name__, "dropped": dropped})
