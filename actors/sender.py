"""Sends commands to Redis on a thread of its own, so that no request and no stage waits for Redis."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import redis

from vm_webapp.circuit_breaker import CircuitBreaker
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

SKIP_AFTER_FAILURE_SECONDS = 2.0
LOG_REFUSAL_EVERY_SECONDS = 60.0
MAX_QUEUED = 1000
# Between two rounds of notices. Those who follow a run read at most every 20 ms.
REST_SECONDS = 0.01

Send = Callable[[], object]


class Notice(NamedTuple):
    """A message to publish on a channel, and the client to do it with."""

    client: redis.Redis
    channel: str
    text: str


class Sender:
    """A bounded queue of things to send, and the thread that sends them. What cannot be sent is dropped and counted.

    Notices that wait are published together, in one round trip, and equal ones among them once. A notice waits for at
    most 10 ms, and the first one after a pause not at all.

    Attributes:
        failed: how many things failed or were dropped since the process started.
    """

    def __init__(self) -> None:
        self.failed = 0
        self._queue: deque[Send] = deque()
        self._notices: dict[Notice, None] = {}  # an ordered set
        self._publish_at = 0.0  # the monotonic time from which notices may be published again
        self._unheard: dict[str, None] = {}  # channels, the newest last
        self._filled = threading.Condition()
        self._busy = False
        self._sending = 0  # how many things the send that is in progress sends
        self._process: int | None = None
        self._redis = CircuitBreaker(SKIP_AFTER_FAILURE_SECONDS)
        self._refusals_logged: dict[str, float] = {}

    def put(self, send: Send) -> None:
        """Queue something to send, or drop it if Redis failed within two seconds or the queue is full.

        Args:
            send: sends it, on the sender's thread; raises ``redis.RedisError`` on failure.
        """
        with self._filled:
            if self._accepts():
                self._queue.append(send)
                self._filled.notify_all()  # one alone might reach a thread that waits in ``flush``

    def publish(self, notice: Notice) -> None:
        """Queue a notice, or drop it as ``put`` does. One that equals it and still waits gives way to it."""
        with self._filled:
            if not self._accepts():
                return
            if not self._notices:  # otherwise the thread knows that there are some
                self._filled.notify_all()
            # At the end: followers that read then find all that was committed before it was queued.
            self._notices.pop(notice, None)
            self._notices[notice] = None

    def is_heard(self, channel: str) -> bool:
        """Return False if nobody had subscribed to a channel when a notice was last published on it."""
        with self._filled:
            return channel not in self._unheard

    def flush(self, seconds: float) -> bool:
        """Wait at most this long until everything is sent or dropped; return whether it was."""
        with self._filled:
            return self._filled.wait_for(lambda: not self._waiting() and not self._busy, seconds)

    def _accepts(self) -> bool:
        """Whether there is a point in queueing one thing more; if not, it is counted as failed."""
        accepts = not self._redis.is_open and self._waiting() < MAX_QUEUED and self._has_thread()
        self.failed += not accepts
        return accepts

    def _waiting(self) -> int:
        return len(self._queue) + len(self._notices)

    def _publish(self) -> None:
        with self._filled:
            notices, self._notices = list(self._notices), {}
            self._sending = len(notices)
            self._publish_at = time.monotonic() + REST_SECONDS
        for client, group in groupby(notices, attrgetter("client")):
            self._publish_by(client, list(group))

    def _publish_by(self, client: redis.Redis, notices: list[Notice]) -> None:
        with client.pipeline(transaction=False) as pipeline:
            for notice in notices:
                pipeline.publish(notice.channel, notice.text)
            replies = pipeline.execute(raise_on_error=False)
        for notice, reply in zip(notices, replies, strict=True):
            if isinstance(reply, redis.ResponseError):
                self._note_refusal(reply)
            else:
                self._note_listeners(notice.channel, reply)

    def _note_listeners(self, channel: str, count: int) -> None:
        with self._filled:
            self._unheard.pop(channel, None)
            if not count:
                self._unheard[channel] = None
            if len(self._unheard) > MAX_QUEUED:
                del self._unheard[next(iter(self._unheard))]

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
                send = self._next()
                self._busy, self._sending = True, 1
            try:
                send()
            except redis.ResponseError as error:
                self._note_refusal(error)
            except redis.RedisError as error:
                self._pause_after(error)
            except Exception:
                log.exception("redis.send_crashed")

    def _next(self) -> Send:
        """Wait for something to send, and return what sends it. The caller holds the lock."""
        while True:
            rest = self._publish_at - time.monotonic()
            if self._notices and rest <= 0:
                return self._publish
            if self._queue:
                return self._queue.popleft()
            self._filled.wait(rest if self._notices else None)

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
            dropped = self._sending + self._waiting()
            self.failed += dropped
            self._queue.clear()
            self._notices.clear()
        log.warning("redis.send_failed", extra={"error": type(error).__name__, "dropped": dropped})
