"""Sends commands to Redis on a thread of its own, so that no request and no stage waits for Redis."""

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
MAX_QUEUED = 1000

Send = Callable[[], object]


class Sender:
    """A bounded queue of things to send, and the thread that sends them. What cannot be sent is dropped and counted.

    Attributes:
        failed: how many things failed or were dropped since the process started.
    """

    def __init__(self) -> None:
        self.failed = 0
        self._queue: deque[Send] = deque()
        self._filled = threading.Condition()
        self._busy = False
        self._process: int | None = None
        self._redis = CircuitBreaker(SKIP_AFTER_FAILURE_SECONDS)

    def put(self, send: Send) -> None:
        """Queue something to send, or drop it if Redis failed within two seconds or the queue is full.

        Args:
            send: sends it, on the sender's thread; raises ``redis.RedisError`` on failure.
        """
        with self._filled:
            hopeless = self._redis.is_open or len(self._queue) >= MAX_QUEUED
            if hopeless or not self._has_thread():
                self.failed += 1
                return
            self._queue.append(send)
            self._filled.notify()

    def flush(self, seconds: float) -> bool:
        """Wait at most this long until everything is sent or dropped; return whether it was."""
        with self._filled:
            return self._filled.wait_for(lambda: not self._queue and not self._busy, seconds)

    def _has_thread(self) -> bool:
        # A forked process inherits this object, but not its thread.
        if self._process != os.getpid():
            try:
                threading.Thread(target=self._run, name="redis-sender", daemon=True).start()
            except RuntimeError as error:  # the system refuses more threads; the next call tries again
                log.warning("redis.send_failed", extra={"error": str(error), "dropped": 1})
                return False
            self._process = os.getpid()
        return True

    def _run(self) -> None:
        while True:
            with self._filled:
                self._busy = False
                self._filled.notify_all()
                self._filled.wait_for(lambda: bool(self._queue))
                send, self._busy = self._queue.popleft(), True
            try:
                send()
            except redis.RedisError as error:
                self._pause_after(error)
            except Exception:
                log.exception("redis.send_crashed")

    def _pause_after(self, error: Exception) -> None:
        with self._filled:
            self._redis.record_failure()
            # Each queued item would run into a time-out of its own, and polling finds a stage before a late hint.
            dropped = 1 + len(self._queue)
            self.failed += dropped
            self._queue.clear()
        log.warning("redis.send_failed", extra={"error": type(error).__name__, "dropped": dropped})
