"""The consumer of a worker: hints from Redis when they come, due stages from PostgreSQL when none do.

Both go through Dramatiq's own threads, and both count against one number of slots, so there is one lane with Redis or
without. Nothing in here raises for Redis' sake: Dramatiq would stop its threads or make them wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import redis
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import ActorNotFound, DecodeError
from dramatiq.message import Message

from vm_webapp.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from actors.service import WorkerService

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 0.5
REDIS_PAUSE_SECONDS = 1.0
HINTS_BEFORE_POLL = 10
LOCAL = "fed_from_postgresql"


class Bell:
    """A Redis list that wakes one idle worker for each ring."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._key = f"{namespace}:bell"

    def ring(self) -> None:
        """Ring once. Tokens that nobody waits for are few and short-lived."""
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.lpush(self._key, 1)
            pipeline.ltrim(self._key, 0, 63)
            pipeline.expire(self._key, 60)
            pipeline.execute()

    def wait(self, seconds: float) -> bool:
        """Wait for a ring; return whether it came."""
        return self._client.blpop([self._key], timeout=max(seconds, 0.01)) is not None


class FeedingConsumer(Consumer):
    """Wraps Dramatiq's Redis consumer, or stands alone where there is no Redis."""

    def __init__(
        self,
        broker: Broker,
        queue_name: str,
        *,
        slots: int,
        stock: Any,
        bell: Bell | None,
        service: WorkerService,
    ) -> None:
        self._broker = broker
        self._queue_name = queue_name
        self._slots = slots
        self._stock = stock
        self._bell = bell
        self._service = service
        self._poll_seconds = service.poll_seconds
        self._held: dict[str, UUID | None] = {}
        self._freed = threading.Condition()
        self._fed: deque[UUID] = deque()
        self._next_poll = 0.0
        self._last_poll = 0.0
        self._redis_down_until = 0.0

    def __next__(self) -> MessageProxy | None:
        """Return the next message, or None after waiting for at most half a second."""
        if self._service.draining:
            time.sleep(0.05)
            return None
        if not self._wait_for_slot():
            return None
        if self._fed:
            return self._feed(self._fed.popleft())
        if time.monotonic() >= self._next_poll:
            self._poll()
            if self._fed:
                return self._feed(self._fed.popleft())
        return self._take_hint() or self._wait_for_hint()

    def ack(self, message: MessageProxy) -> None:
        """Free the slot; tell Redis if the message came from there. A failure costs a duplicate hint, no more."""
        self._settle(message, "ack")

    def nack(self, message: MessageProxy) -> None:
        """Free the slot; dead-letter the message if it came from Redis."""
        self._settle(message, "nack")

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give back messages that no thread took; those we made ourselves need no giving back."""
        from_redis = [message for message in messages if LOCAL not in message.options]
        if self._stock is not None and from_redis:
            try:
                self._stock.requeue(from_redis)
            except (redis.RedisError, ConnectionError) as error:
                log.warning("hint.requeue_failed", extra={"error": type(error).__name__})

    def close(self) -> None:
        """Close the wrapped consumer."""
        if self._stock is not None:
            self._stock.close()

    def _settle(self, message: MessageProxy, how: str) -> None:
        with self._freed:
            self._held.pop(message.message_id, None)
            self._freed.notify()
        if LOCAL in message.options or self._stock is None:
            return
        try:
            getattr(self._stock, how)(message)
        except Exception as error:  # Redis' errors, and Dramatiq's for them
            log.warning("hint.unacknowledged", extra={"error": type(error).__name__})

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

    def _poll(self) -> None:
        """Ask PostgreSQL for as many due stages as there are free slots; a full answer means that more are waiting."""
        wanted = self._free_slots()
        with self._freed:
            in_hand = [stage_id for stage_id in self._held.values() if stage_id is not None]
        now = time.monotonic()
        self._last_poll = now
        self._next_poll = now + self._poll_seconds
        try:
            found = self._service.find_due(wanted, without=in_hand)
        except DatabaseUnavailable as error:
            log.warning("poll.failed", extra={"error": str(error)})
            return
        self._fed.extend(found)
        if len(found) == wanted:
            self._next_poll = now

    def _feed(self, stage_id: UUID) -> MessageProxy:
        message: Message[Any] = Message(
            queue_name=self._queue_name,
            actor_name="execute_stage",
            args=(str(stage_id),),
            kwargs={},
            options={LOCAL: True},
        )
        self._hold(message.message_id, stage_id)
        return MessageProxy(message)

    def _take_hint(self) -> MessageProxy | None:
        if self._stock is None or time.monotonic() < self._redis_down_until:
            return None
        # Never fetch more than there are slots for: a hint that lies here is one that others cannot take.
        self._stock.prefetch = self._stock.outstanding_message_count + self._free_slots()
        try:
            message: MessageProxy | None = next(self._stock)
        except DecodeError:
            log.warning("hint.malformed")
            return None
        except (redis.RedisError, OSError, StopIteration) as error:
            self._note_redis_down(error)
            return None
        except Exception as error:  # Dramatiq's ConnectionClosed, and what a message that is no message raises
            self._note_redis_down(error)
            return None
        return self._accept(message) if message is not None else None

    def _accept(self, message: MessageProxy) -> MessageProxy | None:
        try:
            self._broker.get_actor(message.actor_name)
        except ActorNotFound:
            log.warning("hint.unknown_actor", extra={"actor": message.actor_name[:100]})
            self._settle(message, "nack")
            return None
        self._hold(message.message_id, None)
        # Hints put off the poll, but not for ever: a lost hint is found although others keep coming.
        soonest = time.monotonic() + self._poll_seconds
        self._next_poll = min(soonest, self._last_poll + HINTS_BEFORE_POLL * self._poll_seconds)
        return message

    def _wait_for_hint(self) -> MessageProxy | None:
        seconds = min(self._next_poll - time.monotonic(), LONGEST_WAIT_SECONDS)
        if seconds <= 0:
            return None
        if self._bell is None or time.monotonic() < self._redis_down_until:
            time.sleep(seconds)
            return None
        try:
            return self._take_hint() if self._bell.wait(seconds) else None
        except (redis.RedisError, OSError) as error:
            self._note_redis_down(error)
            return None

    def _note_redis_down(self, error: BaseException) -> None:
        if self._redis_down_until == 0 or time.monotonic() - self._redis_down_until > REDIS_PAUSE_SECONDS * 10:
            log.warning("redis.unavailable", extra={"error": type(error).__name__})
        self._redis_down_until = time.monotonic() + REDIS_PAUSE_SECONDS
