"""Sends commands to Redis on a thread of its own, so that no request and no stage waits for Redis."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

import redis

from vm_webapp.circuit_breaker import CircuitBreaker
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

SKIP_AFTER_FAILURE_SECONDS = 2.0
LOG_REFUSAL_EVERY_SECONDS = 60.0
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
        self._refusals_logged: dict[str, float] = {}

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
            except redis.ResponseError as error:
                self._note_refusal(error)
            except redis.RedisError as error:
                self._pause_after(error)
            except Exception:
                log.exception("redis.send_crashed")

    def _note_refusal(self, error: redis.ResponseError) -> None:
        """Drop only what Redis refused: it responded at once, and may allow what is queued behind."""
        with self._filled:
            self.failed += 1
        kind, now = type(error).__name__, time.monotonic()
        # A model that writes makes several notices a second, and each may be refused for the same reason.
        if now - self._refusals_logged.get(kind, -LOG_REFUSAL_EVERY_SECONDS) >= LOG_REFUSAL_EVERY_SECONDS:
            self._refusals_logged[kind] = now
            log.warning("redis.send_refused", extra={"error": shortened(error)})

    def _pause_after(self, error: Exception) -> None:
        with self._filled:
            self._redis.record_failure()
            # Each queued item would run into a time-out of its own, and polling finds a stage before a late hint.
            dropped = 1 + len(self._queue)
            self.failed += dropped
            self._queue.clear()
        log.warning("redis.send_failed", extra={"error": type(error).__name__, "dropped": dropped})
