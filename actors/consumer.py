"""A worker's consumer: it takes hints from Redis and, when none arrive, due stages from PostgreSQL.

A hint is a Dramatiq message that says that a stage may be due. Hints and polled stages run on the same Dramatiq threads
and share one number of slots, so work takes one path with Redis or without. Nothing here raises: Dramatiq would discard
the consumer for a second, or make a worker thread wait and retry its acknowledgement.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, Protocol
from uuid import UUID

import redis
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.message import Message

from actors.hints import ACTOR, HintQueue, RedisUnavailable
from actors.wake_list import WakeList
from vm_webapp.circuit_breaker import CircuitBreaker
from vm_webapp.runs.due import DueStages
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 0.5
REDIS_PAUSE_SECONDS = 1.0
HINTS_BEFORE_POLL = 10
LOCAL = "fed_from_postgresql"


class WorkSource(Protocol):
    """Where a consumer finds due stages when no hint arrives."""

    @property
    def takes_work(self) -> bool:
        """Whether stages may be claimed: the worker is neither starting nor draining."""

    @property
    def poll_seconds(self) -> float:
        """How often an idle consumer polls for due stages."""

    def find_due(self, limit: int, *, without: Collection[UUID]) -> DueStages:
        """Return at most ``limit`` stages that could be claimed now, none of those in ``without``."""


class FeedingConsumer(Consumer):
    """Hands messages to a worker's threads.

    Args:
        queue_name: the queue name of the messages that are made from polled stages.
        slots: how many messages may be in progress at a time, one for each thread.
        hints: the hints in Redis; None without Redis.
        wake_list: wakes this consumer when there is a hint; None without Redis.
        work: the due stages in PostgreSQL.
        freed: notified when a slot becomes free; tests pass one to control the timing.
    """

    def __init__(
        self,
        queue_name: str,
        *,
        slots: int,
        hints: HintQueue | None,
        wake_list: WakeList | None,
        work: WorkSource,
        freed: threading.Condition | None = None,
    ) -> None:
        self._queue_name = queue_name
        self._slots = slots
        self._hints = hints
        self._wake_list = wake_list
        self._work = work
        self._poll_seconds = work.poll_seconds
        self._held: dict[str, UUID | None] = {}
        self._freed = freed or threading.Condition()
        self._fed: deque[UUID] = deque()
        self._recently_fed: dict[UUID, float] = {}
        self._more_are_due = False
        self._next_poll = 0.0
        self._last_poll = 0.0
        self._redis = CircuitBreaker(REDIS_PAUSE_SECONDS)

    def __next__(self) -> MessageProxy | None:
        """Return the next message, or None after waiting for at most half a second."""
        if not self._work.takes_work:
            # Dramatiq keeps calling its consumer during a drain. These stages are unclaimed: other workers find them.
            self._fed.clear()
            time.sleep(0.05)
            return None
        if not self._wait_for_slot():
            return None
        if not self._fed and time.monotonic() >= self._next_poll:
            self.poll_once()
        if self._fed:
            return self._feed(self._fed.popleft())
        return self._take_hint() or self._wait_for_hint()

    def ack(self, message: MessageProxy) -> None:
        """Free the message's slot, and acknowledge the message in Redis if it came from there."""
        with self._freed:
            self._held.pop(message.message_id, None)
            if self._more_are_due:
                self._next_poll = 0.0  # the free slot can be filled at once
            self._freed.notify()
        if self._hints is not None and LOCAL not in message.options:
            self._hints.acknowledge(message)

    def nack(self, message: MessageProxy) -> None:
        """Do the same as ``ack``: a hint that failed need not be redelivered, because polling finds its stage."""
        self.ack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Put hints that no thread took back into Redis; local messages are dropped, as polling finds their stages."""
        from_redis = [message for message in messages if LOCAL not in message.options]
        if self._hints is not None and from_redis:
            self._hints.requeue(from_redis)

    def close(self) -> None:
        """Close the hint queue."""
        if self._hints is not None:
            self._hints.close()

    def poll_once(self) -> None:
        """Poll PostgreSQL for as many due stages as there are free slots."""
        self._last_poll = time.monotonic()
        self._next_poll = self._last_poll + self._poll_seconds
        free = self._free_slots()
        try:
            due = self._work.find_due(free, without=self._recently_handed_out())
        except Exception as error:  # an outage, or a migration in progress: the next poll tries again
            log.warning("poll.failed", extra={"error": shortened(error)})
            return
        self._fed.extend(due.ids)
        with self._freed:
            self._more_are_due = due.more
            if due.more and self._slots - len(self._held) > free:
                self._next_poll = 0.0  # a call ended during the query, before ``_more_are_due`` was set

    def _wait_for_slot(self) -> bool:
        with self._freed:
            if len(self._held) >= self._slots:
                self._freed.wait(LONGEST_WAIT_SECONDS)
            return len(self._held) < self._slots

    def _free_slots(self) -> int:
        with self._freed:
            return self._slots - len(self._held)

    def _hold(self, message_id: str, stage_id: UUID | None) -> None:
        with self._freed:
            self._held[message_id] = stage_id

    def _recently_handed_out(self) -> list[UUID]:
        """Return the stages that a thread has now, or was given within the last poll interval."""
        # A stage that no claim succeeds on stays due. Without this it would be handed out again in a tight loop.
        before = self._last_poll - self._poll_seconds
        self._recently_fed = {id: when for id, when in self._recently_fed.items() if when > before}
        with self._freed:
            held = [stage_id for stage_id in self._held.values() if stage_id is not None]
        return [*held, *self._recently_fed]

    def _feed(self, stage_id: UUID) -> MessageProxy:
        message: Message[Any] = Message(
            queue_name=self._queue_name,
            actor_name=ACTOR,
            args=(str(stage_id),),
            kwargs={},
            options={LOCAL: True},
        )
        self._recently_fed[stage_id] = time.monotonic()
        self._hold(message.message_id, stage_id)
        return MessageProxy(message)

    def _take_hint(self) -> MessageProxy | None:
        if self._hints is None or self._redis.is_open:
            return None
        if self._redis.is_half_open and self._wake_list is not None and not self._wake_list.responds():
            # Fetching from a Redis that hangs blocks this thread, and so the polling, for the whole consumer time-out.
            # The probe finds out within a tenth of that.
            self._redis.record_failure()
            return None
        try:
            message = self._hints.take(self._free_slots())
        except RedisUnavailable as error:
            self._note_redis_down(str(error))
            return None
        if self._redis.record_success():
            log.info("redis.back")
        if message is not None:
            self._hold(message.message_id, None)
            # A hint postpones the next poll, but not for ever: a lost hint must be found while others keep arriving.
            soonest = time.monotonic() + self._poll_seconds
            self._next_poll = min(soonest, self._last_poll + HINTS_BEFORE_POLL * self._poll_seconds)
        return message

    def _wait_for_hint(self) -> MessageProxy | None:
        with self._freed:  # reads ``_next_poll`` and waits under one lock, so that no ``ack`` falls between the two
            now = time.monotonic()
            seconds = min(self._next_poll - now, LONGEST_WAIT_SECONDS)
            if seconds <= 0:
                return None
            # While more stages are due than there were slots, the next free slot is the event to wait for, and a
            # blocking pop of the wake list would not notice it.
            if self._wake_list is None or self._more_are_due or self._redis.is_open:
                self._freed.wait(seconds)
                return None
        try:
            woken = self._wake_list.wait(seconds)
            if woken and not self._work.takes_work:
                # A drain began during the wait. This pop took an entry that should have woken a worker that stays.
                self._wake_list.push()
                return None
            return self._take_hint() if woken else None
        except (redis.RedisError, OSError) as error:
            self._note_redis_down(type(error).__name__)
            return None

    def _note_redis_down(self, error: str) -> None:
        if self._redis.record_failure():
            log.warning("redis.unavailable", extra={"error": error})
