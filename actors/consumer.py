"""A worker's consumer: it claims due stages in PostgreSQL and hands the claims to the worker's threads.

It claims as many as there are free slots, when Redis brings a hint (a Dramatiq message that says that a stage may be
due) and at intervals, so that work takes one path with Redis or without. Nothing here raises: Dramatiq would discard
the consumer for a second, or make a worker thread wait and retry its acknowledgement.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from dramatiq.broker import Consumer, MessageProxy
from dramatiq.message import Message
from uuid_utils.compat import uuid4

from actors.hints import ACTOR, HintQueue, RedisUnavailable
from vm_webapp.circuit_breaker import CircuitBreaker
from vm_webapp.runs.lifecycle import Claim, ClaimedStages
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 0.5
REDIS_PAUSE_SECONDS = 1.0
# While a long queue is drained, slots become free one by one. They are filled together: once half of them are free, or
# so long after the last poll. A claim of eight stages costs little more than a claim of one.
POLL_AGAIN_SECONDS = 0.02
# Stages that one statement has ended free their slots within this time.
SETTLE_SECONDS = 0.005
# A hint has the time of Redis' clock in milliseconds, and reading that clock takes a moment.
HINT_TIME_ERROR_SECONDS = 0.05


class WorkSource(Protocol):
    """Where a consumer claims due stages."""

    @property
    def takes_work(self) -> bool:
        """Whether stages may be claimed: the worker is neither starting nor draining."""

    @property
    def poll_seconds(self) -> float:
        """How often an idle consumer polls for due stages."""

    def claim(self, at_most: int) -> ClaimedStages:
        """Claim due stages."""

    def release(self, claims: Iterable[Claim]) -> None:
        """Release stages that no thread has begun."""


class ClaimingConsumer(Consumer):
    """Hands claims to a worker's threads, as the arguments of Dramatiq messages that never leave the process.

    Args:
        queue_name: the queue name of these messages.
        slots: how many of them may be in progress at a time, one for each thread.
        hints: the hints in Redis; None without Redis.
        work: the due stages in PostgreSQL.
        freed: notified when a slot becomes free; tests pass one to control the timing.
    """

    def __init__(
        self,
        queue_name: str,
        *,
        slots: int,
        hints: HintQueue | None,
        work: WorkSource,
        freed: threading.Condition | None = None,
    ) -> None:
        self._queue_name = queue_name
        self._slots = slots
        self._hints = hints
        self._work = work
        self._poll_seconds = work.poll_seconds
        self._in_progress: set[str] = set()
        self._freed = freed or threading.Condition()
        self._claims: deque[Claim] = deque()
        self._more_are_due = False
        self._next_poll = 0.0
        self._last_poll = 0.0
        self._redis = CircuitBreaker(REDIS_PAUSE_SECONDS)

    def __next__(self) -> MessageProxy | None:
        """Return a message with the next claim, or None after waiting for at most half a second."""
        if not self._work.takes_work:
            # Dramatiq keeps calling its consumer during a drain.
            self._release_claims()
            time.sleep(0.05)
            return None
        if not self._wait_for_slot():
            return None
        if not self._claims and (time.monotonic() >= self._next_poll or self._wait_for_hint()):
            self.poll_once()
        return self._hand_out(self._claims.popleft()) if self._claims else None

    def ack(self, message: MessageProxy) -> None:
        """Free the message's slot."""
        with self._freed:
            was_full = len(self._in_progress) >= self._slots
            self._in_progress.discard(message.message_id)
            # Each notice costs a switch of threads, and most calls change nothing for the thread that waits.
            if self._bring_poll_forward() or was_full:
                self._freed.notify()

    def nack(self, message: MessageProxy) -> None:
        """Do the same as ``ack``: where a stage has not ended, its lease does, and it becomes due again."""
        self.ack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Release the claims in messages that no thread took."""
        self._work.release([claim for message in messages for claim in message.args])

    def close(self) -> None:
        """Release the claims that were not handed out."""
        self._release_claims()

    def poll_once(self) -> None:
        """Claim as many due stages as there are free slots."""
        self._last_poll = time.monotonic()
        self._next_poll = self._last_poll + self._poll_seconds
        with self._freed:
            free = self._slots - len(self._in_progress)
        try:
            claimed = self._work.claim(free)
        except Exception as error:  # an outage, or a migration in progress: the next poll tries again
            log.warning("poll.failed", extra={"error": shortened(error)})
            return
        self._claims.extend(claimed.claims)
        with self._freed:
            self._more_are_due = claimed.more
            if self._slots - len(self._in_progress) > free:
                # A call ended during the poll, before ``_more_are_due`` was set.
                self._bring_poll_forward()

    def _bring_poll_forward(self) -> bool:
        """Have the free slots filled soon if more stages are due; return whether that changed the time of the poll.

        To be called under the lock when a slot has become free.
        """
        if not self._more_are_due:
            return False
        now, busy = time.monotonic(), len(self._in_progress)
        soon = now + SETTLE_SECONDS if busy else now
        if 2 * busy > self._slots:
            soon = max(soon, self._last_poll + POLL_AGAIN_SECONDS)
        before, self._next_poll = self._next_poll, min(self._next_poll, soon)
        return self._next_poll != before

    def _release_claims(self) -> None:
        if self._claims:
            self._work.release(self._claims)
            self._claims.clear()

    def _wait_for_slot(self) -> bool:
        with self._freed:
            if len(self._in_progress) >= self._slots:
                self._freed.wait(LONGEST_WAIT_SECONDS)
            return len(self._in_progress) < self._slots

    def _hand_out(self, claim: Claim) -> MessageProxy:
        message: Message[Any] = Message(
            queue_name=self._queue_name,
            actor_name=ACTOR,
            args=(claim,),
            kwargs={},
            options={},
            message_id=str(uuid4()),
        )
        with self._freed:
            self._in_progress.add(message.message_id)
        return MessageProxy(message)

    def _wait_for_hint(self) -> bool:
        """Wait for a hint, at most until the next poll is due.

        Returns:
            Whether one came that announces anything that the last poll may have missed.
        """
        with self._freed:  # reads ``_next_poll`` and waits under one lock, so that no ``ack`` falls between the two
            seconds = min(self._next_poll - time.monotonic(), LONGEST_WAIT_SECONDS)
            if seconds <= 0:
                return False
            # While more stages are due than there were slots, the next free slot is the event to wait for, and a
            # blocking pop of the hints would not notice it.
            if self._hints is None or not self._hints.is_known or self._more_are_due or self._redis.is_open:
                self._freed.wait(seconds)
                return False
        if self._redis.is_half_open and not self._hints.responds():
            # Waiting for a Redis that hangs blocks this thread, and so the polling, for the whole consumer time-out.
            # The probe finds out within a tenth of that.
            self._redis.record_failure()
            return False
        try:
            return self._take_hint(self._hints, seconds)
        except RedisUnavailable as error:
            self._note_redis_down(str(error))
            return False

    def _take_hint(self, hints: HintQueue, seconds: float) -> bool:
        hint = hints.take(seconds)
        if self._redis.record_success():
            log.info("redis.back")
        if hint is None:
            return False
        if not self._work.takes_work:
            # A drain began during the wait. This pop took a hint that should have woken a worker that stays.
            hints.put_back(hint)
            return False
        # A hint is sent after the commit that makes its stage due, so a poll that began later has found the stage.
        return time.monotonic() - hint.age > self._last_poll - HINT_TIME_ERROR_SECONDS

    def _note_redis_down(self, error: str) -> None:
        if self._redis.record_failure():
            log.warning("redis.unavailable", extra={"error": error})
