"""Hints in Redis: sent together, and fetched through Dramatiq's own consumer and validated.

A hint is a Dramatiq message that says that a stage may be due. ``tests/worker/test_dramatiq_contract.py`` checks what
this module relies on in Dramatiq.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast
from uuid import UUID

import redis
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message
from redis.exceptions import NoScriptError

from actors.redis_clock import RedisClock
from actors.wake_list import WakeList
from vm_webapp.errors import Unavailable

log = logging.getLogger(__name__)

# Within this time every idle worker has polled. An older hint is left over from a backlog; a query for it is wasted.
STALE_SECONDS = 10.0
LATEST_TIMESTAMP = 1e15  # milliseconds: later than any clock shows, and small enough not to overflow a float
ACTOR = "execute_stage"


class RedisUnavailable(Unavailable):
    """Redis does not respond, or responds with an error."""

    code = "redis_unavailable"


class HintSender:
    """Sends hints to Redis in one round trip, and wakes as many workers.

    Args:
        client: sends them.
        namespace: the prefix of the keys in Redis.
    """

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._pipeline = client.pipeline(transaction=False)
        self._broker = RedisBroker(client=client, namespace=namespace, middleware=[])
        # The commands of this one wait in the pipeline, until it is executed.
        self._collecting_broker = RedisBroker(client=self._pipeline, namespace=namespace, middleware=[])
        self._wake_list = WakeList(client, namespace)
        self._clock = RedisClock(client)
        self._is_prepared = False

    def send(self, hints: list[Message[Any]]) -> list[redis.ResponseError]:
        """Send hints, and return the errors with which Redis refused some of them.

        Raises:
            redis.RedisError: Redis does not respond.
        """
        # Stamped by the clock that workers tell a hint's age by. The messages have this machine's time so far.
        now = int(self._clock.now() * 1000)
        stamped = [hint.copy(message_timestamp=now) for hint in hints]
        replies = self._send_together(stamped) if self._is_prepared else [NoScriptError()]
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # The first ones since this process, or Redis, was started: Dramatiq loads its scripts and asks for a limit.
            replies = self._send_singly(stamped)
            self._is_prepared = True
        return [reply for reply in replies if isinstance(reply, redis.ResponseError)]

    def _send_together(self, hints: list[Message[Any]]) -> list[Any]:
        with self._pipeline as pipeline:
            for hint in hints:
                self._collecting_broker.enqueue(hint)
            pipeline.scripts.clear()  # it would ask whether they are loaded, in a round trip of its own
            # In this order: a worker that is woken before the hint is in its queue finds nothing, and waits again.
            self._wake_list.push_to(pipeline, len(hints))
            return pipeline.execute(raise_on_error=False)

    def _send_singly(self, hints: list[Message[Any]]) -> list[Any]:
        replies: list[Any] = []
        for hint in hints:
            try:
                self._broker.enqueue(hint)
            except redis.ResponseError as refusal:
                replies.append(refusal)
        with self._pipeline as pipeline:
            self._wake_list.push_to(pipeline, len(hints))
            return replies + pipeline.execute(raise_on_error=False)


class HintQueue:
    """Dramatiq messages in Redis. Invalid ones are logged and dropped, those older than ten seconds are dropped."""

    def __init__(self, broker: RedisBroker, queue_name: str) -> None:
        self._broker = broker
        self._queue_name = queue_name
        self._clock = RedisClock(broker.client)
        # With a time-out of zero the stock consumer never sleeps: FeedingConsumer waits on the wake list instead.
        self._stock: Any = broker.consume(queue_name, prefetch=1, timeout=0)

    def take(self) -> float | None:
        """Take a hint out of Redis.

        Returns:
            How many seconds ago it was sent. None if there is no hint, or if what was there is invalid or stale.

        Raises:
            RedisUnavailable: Redis does not respond, or responds with an error.
        """
        # The stock consumer refuses to fetch while as many messages as its prefetch are unacknowledged, and an
        # acknowledgement may have failed.
        self._stock.prefetch = self._stock.outstanding_message_count + 1
        try:
            now = self._clock.now()  # before the fetch: if Redis fails here, no hint is lost
            message: MessageProxy | None = next(self._stock)
        except (redis.RedisError, ConnectionClosed, OSError) as error:
            raise RedisUnavailable(type(error).__name__) from error
        except Exception as error:  # foreign bytes can make the decoder raise anything
            log.warning("hint.malformed", extra={"error": type(error).__name__})
            self._drop_invalid()
            return None
        if message is None:
            return None
        if not self._is_valid(message):
            self._log_invalid(message)
            # The message's redis_message_id may be wrong, so this only frees its place in the stock consumer.
            # _drop_invalid removes the message from Redis.
            with suppress(Exception):
                self._stock.ack(message)
            self._drop_invalid()
            return None
        self._acknowledge(message)
        age = now - message.message_timestamp / 1000
        return age if age < STALE_SECONDS else None

    def _acknowledge(self, message: MessageProxy) -> None:
        # A failure costs a duplicate later, which is harmless.
        try:
            self._stock.ack(message)
        except Exception as error:  # errors of Redis and Dramatiq, and a KeyError for a message without an id
            log.warning("hint.unacknowledged", extra={"error": type(error).__name__})

    def close(self) -> None:
        """Close the wrapped consumer."""
        self._stock.close()

    def _is_valid(self, message: MessageProxy | Message[Any]) -> bool:
        """Whether a message is a hint as ``execute_stage.send`` makes it. Never raises, whatever JSON its parts are."""
        return (
            message.actor_name == ACTOR
            and message.queue_name == self._queue_name  # a queue without a consumer kills Dramatiq's worker thread
            and [type(argument) for argument in message.args] == [str]
            and _is_id(message.args[0])
            and message.kwargs == {}
            # No further options: with an eta, for one, Dramatiq would hold the message, and its slot, until that time.
            and type(message.options) is dict
            and message.options.keys() == {"redis_message_id"}
            and type(message.options["redis_message_id"]) is str
            and type(message.message_id) is str
            and type(message.message_timestamp) in (int, float)
            and 0 < message.message_timestamp < LATEST_TIMESTAMP
        )

    def _log_invalid(self, message: MessageProxy) -> None:
        if message.actor_name == ACTOR:
            log.warning("hint.malformed", extra={"error": "not a hint of ours"})
        else:
            log.warning("hint.unknown_actor", extra={"actor": str(message.actor_name)[:100]})

    def _drop_invalid(self) -> None:
        """Remove what is not a hint from Redis."""
        # Without an acknowledgement, Dramatiq would redeliver it to one worker after another.
        client, acks = self._broker.client, f"{self._broker.namespace}:__acks__.{self._broker.broker_id}"
        bodies = f"{self._broker.namespace}:{self._queue_name}.msgs"
        try:
            fetched = cast(Iterable[bytes], client.smembers(f"{acks}.{self._queue_name}"))
            for id in fetched:
                message = _decode(cast("bytes | None", client.hget(bodies, id.decode())))
                if message is None or not self._is_valid(message):
                    self._broker.do_ack(self._queue_name, id)
        except (redis.RedisError, OSError) as error:
            log.warning("hint.unacknowledged", extra={"error": type(error).__name__})


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _decode(body: bytes | None) -> Message[Any] | None:
    try:
        return Message.decode(body) if body else None
    except Exception:  # foreign bytes can make the decoder raise anything
        return None
