"""The hints of a queue in Redis, taken through Dramatiq's own consumer and made fit for use.

What this relies on in Dramatiq is pinned by a test of its own, ``tests/worker/test_dramatiq_contract.py``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

import redis
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message

from vm_webapp.errors import Unavailable

log = logging.getLogger(__name__)

# By then every idle worker has polled: an older hint is a leftover of a backlog and not worth a look at the database.
STALE_SECONDS = 10.0
LATEST_TIMESTAMP = 1e15  # milliseconds: no clock says so, and nothing overflows
ACTOR = "execute_stage"


class RedisUnavailable(Unavailable):
    """Redis does not answer, or answers that it cannot."""

    code = "redis_unavailable"


class HintQueue:
    """Hints as messages of Dramatiq. Only sound and recent ones come out; the others are logged and dropped."""

    def __init__(self, broker: RedisBroker, queue_name: str) -> None:
        self._broker = broker
        self._queue_name = queue_name
        # With a time-out of zero the stock consumer never sleeps: FeedingConsumer waits on the wake list instead.
        self._stock: Any = broker.consume(queue_name, prefetch=1, timeout=0)

    def take(self, at_most: int) -> MessageProxy | None:
        """Return a hint, or None where there is none worth taking.

        Args:
            at_most: hints that may be fetched now: one that lies here is one that other workers cannot take.

        Raises:
            RedisUnavailable: ask again later.
        """
        self._stock.prefetch = self._stock.outstanding_message_count + at_most
        try:
            message: MessageProxy | None = next(self._stock)
        except (redis.RedisError, ConnectionClosed, OSError) as error:
            raise RedisUnavailable(type(error).__name__) from error
        except Exception as error:  # whatever somebody else's bytes make the decoder raise
            log.warning("hint.malformed", extra={"error": type(error).__name__})
            self._drop_unsound()
            return None
        if message is None:
            return None
        if not self._is_sound(message):
            self._complain(message)
            # Its own word for its place in Redis is worth nothing: this only frees it here.
            with suppress(Exception):
                self._stock.ack(message)
            self._drop_unsound()
            return None
        if time.time() - message.message_timestamp / 1000 < STALE_SECONDS:
            return message
        self.acknowledge(message)
        return None

    def acknowledge(self, message: MessageProxy) -> None:
        """Tell Redis that a hint is done with. A failure costs a duplicate later, which is harmless."""
        try:
            self._stock.ack(message)
        except Exception as error:  # Redis' errors, Dramatiq's for them, and what a message without an id raises
            log.warning("hint.unacknowledged", extra={"error": type(error).__name__})

    def give_back(self, messages: Iterable[MessageProxy]) -> None:
        """Put hints that nobody took back for other workers; failing to do so is harmless, too."""
        try:
            self._stock.requeue(messages)
        except (redis.RedisError, ConnectionClosed, OSError, KeyError) as error:
            log.warning("hint.requeue_failed", extra={"error": type(error).__name__})

    def close(self) -> None:
        """Close the wrapped consumer."""
        self._stock.close()

    def _is_sound(self, message: MessageProxy | Message[Any]) -> bool:
        """Whether a message is a hint as we send them. Never raises, whatever JSON its parts are."""
        return (
            message.actor_name == ACTOR
            and message.queue_name == self._queue_name  # another one would kill the thread that works on it
            and [type(argument) for argument in message.args] == [str]
            and message.kwargs == {}
            # Nothing else: an eta, for one, would keep a slot until that time.
            and type(message.options) is dict
            and message.options.keys() == {"redis_message_id"}
            and type(message.options["redis_message_id"]) is str
            and type(message.message_id) is str
            and type(message.message_timestamp) in (int, float)
            and 0 < message.message_timestamp < LATEST_TIMESTAMP
        )

    def _complain(self, message: MessageProxy) -> None:
        if message.actor_name == ACTOR:
            log.warning("hint.malformed", extra={"error": "not a hint of ours"})
        else:
            log.warning("hint.unknown_actor", extra={"actor": str(message.actor_name)[:100]})

    def _drop_unsound(self) -> None:
        """Acknowledge what is not a hint: else it would come back to every worker after this one."""
        client, acks = self._broker.client, f"{self._broker.namespace}:__acks__.{self._broker.broker_id}"
        bodies = f"{self._broker.namespace}:{self._queue_name}.msgs"
        try:
            fetched = cast(Iterable[bytes], client.smembers(f"{acks}.{self._queue_name}"))
            for id in fetched:
                message = _decode(cast("bytes | None", client.hget(bodies, id.decode())))
                if message is None or not self._is_sound(message):
                    self._broker.do_ack(self._queue_name, id)
        except (redis.RedisError, OSError) as error:
            log.warning("hint.unacknowledged", extra={"error": type(error).__name__})


def _decode(body: bytes | None) -> Message[Any] | None:
    try:
        return Message.decode(body) if body else None
    except Exception:  # whatever somebody else's bytes make the decoder raise
        return None
