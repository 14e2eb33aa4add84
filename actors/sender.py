"""Sends commands to Redis so that no request and no stage waits for it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

import redis

from vm_webapp.circuit_breaker import CircuitBreaker
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

Item = TypeVar("Item")
SKIP_AFTER_FAILURE_SECONDS = 2.0
# One round that takes too long is no outage: on a busy machine it happens, and polling finds what was dropped.
OUTAGE_SECONDS = 10.0
LOG_REFUSAL_EVERY_SECONDS = 60.0
SETTLE_SECONDS = 0.02  # Redis has responded by then
MAX_QUEUED = 1000


class Lane(Generic[Item]):
    """Things of one kind that are sent in rounds: all that wait go together, the first one after a rest at once.

    ``Sender.put`` queues them.

    Args:
        send: sends the things of a round, on the sender's thread. Returns the errors with which Redis refused some of
            them, or of those that were offered before; raises ``redis.RedisError`` if Redis failed.
        rest_seconds: the time from one round to the next.
        note: called with how many things were sent, and how many failed or were dropped; must not block.
        offer: sends the first thing after a rest on the thread that puts it, without waiting, and returns whether it
            did; a round soon after it, which may be empty, learns what became of it. None to send all in rounds.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Iterable[redis.ResponseError]],
        *,
        rest_seconds: float,
        note: Callable[[int, int], object] = lambda sent, failed: None,
        offer: Callable[[Item], bool] | None = None,
    ) -> None:
        self.send = send
        self._offer = offer
        self._offered = 0
        self.note = note
        self.rest_seconds = rest_seconds
        self._waiting: dict[Hashable, Item] = {}
        self._next_round = 0.0  # monotonic time
        self._settle_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def unsettled(self) -> int:
        """How many things wait, or were offered and nobody knows yet what became of them."""
        return len(self._waiting) + self._offered

    def offer(self, item: Item) -> bool:
        """Send a thing at once if the lane has rested, nothing waits, and it can be done without waiting."""
        now = time.monotonic()
        if self._offer is None or self._waiting or self._next_round > now or not self._offer(item):
            return False
        self._next_round = now + self.rest_seconds
        if not self._offered:
            self._settle_at = now + SETTLE_SECONDS
        self._offered += 1
        return True

    def settle(self) -> None:
        """Have a round begin at once if anything was offered."""
        self._settle_at = 0.0

    def add(self, key: Hashable, item: Item) -> None:
        """Add a thing at the end; one with the same key that still waits gives way to it."""
        self._waiting.pop(key, None)
        self._waiting[key] = item

    def seconds_left(self, now: float) -> float:
        """Return how long the lane still rests at the monotonic time ``now``; 0 or less if a round may begin."""
        return (self._next_round if self._waiting else self._settle_at) - now

    def take(self) -> tuple[list[Item], int]:
        """Begin a round; return what it sends, and how many were offered since the one before."""
        self._next_round = time.monotonic() + self.rest_seconds
        offered, self._offered = self._offered, 0
        return self._take_waiting(), offered

    def drop(self) -> int:
        """Remove what waits or was offered; return how many that are."""
        offered, self._offered = self._offered, 0
        return len(self._take_waiting()) + offered

    def _take_waiting(self) -> list[Item]:
        items = list(self._waiting.values())
        self._waiting.clear()
        return items


class Sender:
    """Bounded queues of things to send, and the thread that sends them. What cannot be sent is dropped and counted.

    Args:
        lanes: the queues; where two are ready, the first goes first.
        clock: monotonic seconds.

    Attributes:
        failed: how many things failed or were dropped since the process started.
    """

    def __init__(self, *lanes: Lane[Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.failed = 0
        self._lanes = lanes
        self._filled = threading.Condition()
        self._sending = 0  # how many things the round that is in progress sends
        self._process: int | None = None
        self._clock = clock
        self._redis = CircuitBreaker(SKIP_AFTER_FAILURE_SECONDS, clock)
        self._failing_since = 0.0  # by the clock; only while the circuit breaker counts a failure
        self._outage_logged = False
        self._refusals_logged: dict[str, float] = {}

    def put(self, lane: Lane[Item], item: Item, *, key: Hashable) -> None:
        """Queue a thing, or drop it if Redis failed within two seconds or the queues are full.

        Args:
            lane: one of this sender's.
            item: what to send.
            key: of things with the same key that wait, only the last is sent.
        """
        with self._filled:
            if self._redis.is_open or self._waiting() >= MAX_QUEUED or not self._has_thread():
                self.failed += 1
                lane.note(0, 1)
                return
            if not lane.offer(item):
                lane.add(key, item)
            if lane.unsettled == 1 or len(lane) == 1:  # otherwise the thread knows that there is something
                self._filled.notify_all()  # one alone might reach a thread that waits in ``flush``

    def flush(self, seconds: float) -> bool:
        """Wait at most this long until everything is sent or dropped; return whether it was."""
        with self._filled:
            for lane in self._lanes:
                lane.settle()
            self._filled.notify_all()
            return self._filled.wait_for(
                lambda: not self._sending and not any(lane.unsettled for lane in self._lanes), seconds
            )

    def _waiting(self) -> int:
        return sum(len(lane) for lane in self._lanes)

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
                self._sending = 0
                self._filled.notify_all()
                lane = self._next()
                items, offered = lane.take()
                self._sending = len(items) + offered
            try:
                refusals = list(lane.send(items))
                lane.note(max(self._sending - len(refusals), 0), len(refusals))
                self._note_response()
                for refusal in refusals:
                    self._note_refusal(refusal)
            except redis.RedisError as error:
                lane.note(0, self._sending)
                self._pause_after(error)
            except Exception:
                log.exception("redis.send_crashed")

    def _next(self) -> Lane[Any]:
        """Wait for a lane that may send what it has, and return it. The caller holds the lock."""
        while True:
            now = time.monotonic()
            rests = {lane: lane.seconds_left(now) for lane in self._lanes if lane.unsettled}
            for lane, seconds in rests.items():
                if seconds <= 0:
                    return lane
            self._filled.wait(min(rests.values(), default=None))

    def _note_response(self) -> None:
        if self._redis.record_success() and self._outage_logged:
            self._outage_logged = False
            log.info("redis.sent_again")

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
            now = self._clock()
            if self._redis.record_failure():
                self._failing_since = now
            # Each queued item would run into a time-out of its own, and polling finds a stage before a late hint.
            dropped = self._sending
            for lane in self._lanes:
                more = lane.drop()
                lane.note(0, more)
                dropped += more
            self.failed += dropped
        lasts = now - self._failing_since >= OUTAGE_SECONDS
        level = logging.WARNING if lasts and not self._outage_logged else logging.INFO
        self._outage_logged = self._outage_logged or lasts
        log.log(level, "redis.send_failed", extra={"error": type(error).__name__, "dropped": dropped})
