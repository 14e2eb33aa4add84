"""Hints in Redis: sent together, taken one by one, and validated.

A hint is a Dramatiq message that says that a stage may be due. It lies in a list as a whole, so that the blocking pop
that wakes a worker also brings the hint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, cast
from uuid import UUID

import redis
from dramatiq.message import Message

from actors.dramatiq_queue import QUEUE, DramatiqQueue, EarlierWorkers
from actors.quick_line import Command, QuickLine
from actors.redis_clock import RedisClock
from vm_webapp.errors import Unavailable
from vm_webapp.fleet.installation import known_fingerprint
from vm_webapp.redis_keys import PREFIX, hints_of, namespace_of

log = logging.getLogger(__name__)

# Within this time every idle worker has polled. An older hint is left over from a backlog; a query for it is wasted.
STALE_SECONDS = 10
# Busy workers take no hints. A long list would later wake idle ones in vain.
MAX_HINTS = 64
LATEST_TIMESTAMP = 1e15  # milliseconds: later than any clock shows, and small enough not to overflow a float
COMMANDS_WITHOUT_TIME = 3
ACTOR = "execute_stage"


class RedisUnavailable(Unavailable):
    """Redis does not respond, or responds with an error."""

    code = "redis_unavailable"


class HintSender:
    """Sends hints to Redis in one round trip. Each wakes one worker that waits, or the next one that does.

    Args:
        client: sends them.
        fingerprint: returns which database they are for, None while it is not known; may read it.
    """

    def __init__(self, client: redis.Redis, fingerprint: Callable[[], str | None]) -> None:
        self._client = client
        self._fingerprint = fingerprint
        self._clock = RedisClock(client)
        self._earlier = EarlierWorkers(client)
        self._line = QuickLine(client)

    def offer(self, hint: Message[Any]) -> bool:
        """Send a hint if that is possible without waiting, and return whether it was.

        ``send`` makes it possible, and later learns whether Redis has taken it.
        """
        fingerprint = known_fingerprint()
        if fingerprint is None or not self._clock.is_set or self._earlier.were_present:
            return False
        return self._line.offer(self._commands(fingerprint, [self._stamped(hint)]))

    def send(self, hints: list[Message[Any]]) -> list[redis.ResponseError]:
        """Send hints, and return the errors with which Redis refused them or those that were offered before.

        Raises:
            redis.RedisError: Redis does not respond.
        """
        refusals = [refusal for replies in self._line.collect() for refusal in self._refusals(replies)]
        fingerprint = self._fingerprint()
        if fingerprint is None:  # the database was there a moment ago: the stages' transactions have committed
            return [*refusals, *(redis.ResponseError("their database is not known") for _ in hints)]
        stamped = [self._stamped(hint) for hint in hints]
        if stamped:
            with self._client.pipeline(transaction=False) as pipeline:
                for command in self._commands(fingerprint, stamped):
                    pipeline.execute_command(*command)
                refusals += self._refusals(pipeline.execute(raise_on_error=False))
        self._line.open()
        try:
            if self._earlier.present(fingerprint) and stamped:
                self._earlier.send(stamped)
        except redis.ResponseError as refusal:
            refusals.append(refusal)
        return refusals

    def _stamped(self, hint: Message[Any]) -> Message[Any]:
        # By the clock that workers tell a hint's age by. The message has this machine's time so far.
        return hint.copy(message_timestamp=int(self._clock.now() * 1000))

    def _commands(self, fingerprint: str, hints: list[Message[Any]]) -> list[Command]:
        key = hints_of(fingerprint)
        push: Command = ("RPUSH", key, *[hint.encode() for hint in hints[-MAX_HINTS:]])
        trim: Command = ("LTRIM", key, -MAX_HINTS, -1)
        expire: Command = ("EXPIRE", key, STALE_SECONDS)
        return [push, trim, expire, ("TIME",)] if self._clock.is_old else [push, trim, expire]

    def _refusals(self, replies: list[Any]) -> list[redis.ResponseError]:
        """Return the first error among the replies to a round, and set the clock if it was asked for."""
        refused = [reply for reply in replies if isinstance(reply, redis.ResponseError)]
        if not refused and len(replies) > COMMANDS_WITHOUT_TIME:
            seconds, microseconds = replies[-1]
            self._clock.set((int(seconds), int(microseconds)))
        return refused[:1]


class Hint(NamedTuple):
    """A hint that was taken out of Redis.

    Attributes:
        body: the message.
        age: how many seconds ago it was sent.
    """

    body: bytes
    age: float


class HintQueue:
    """The hints for the workers of a database. Invalid ones are logged and dropped, stale ones are dropped.

    Args:
        client: waits; its socket time-out must be longer than any wait.
        fingerprint: returns which database the worker works on, None while it is not known.
        probe: a client with a shorter time-out, to find out whether Redis responds at all; ``client`` if None.
    """

    def __init__(
        self, client: redis.Redis, fingerprint: Callable[[], str | None], *, probe: redis.Redis | None = None
    ) -> None:
        self._client = client
        self._fingerprint = fingerprint
        self._probe = probe or client
        self._clock = RedisClock(client)
        self._earlier = DramatiqQueue(client, PREFIX)
        self._earlier_expires = False

    @property
    def is_known(self) -> bool:
        """Whether it is known which hints are for this worker."""
        return self._fingerprint() is not None

    def take(self, seconds: float) -> Hint | None:
        """Take a hint out of Redis; wait for one at most this long.

        Returns:
            None if none came, or if what came is invalid or stale.

        Raises:
            RedisUnavailable: Redis does not respond, or responds with an error.
        """
        try:
            body = self._pop(seconds)
        except (redis.RedisError, OSError) as error:
            raise RedisUnavailable(type(error).__name__) from error
        if body is None:
            return None
        message = _decode(body)
        if message is None or not _is_valid(message):
            _log_invalid(message)
            return None
        hint = Hint(body, self._clock.now() - message.message_timestamp / 1000)
        return hint if hint.age < STALE_SECONDS else None

    def put_back(self, hint: Hint) -> None:
        """Put a hint back for another worker.

        Raises:
            RedisUnavailable: Redis does not respond, or responds with an error.
        """
        fingerprint = self._fingerprint()
        assert fingerprint is not None, "a hint was taken before"
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.lpush(hints_of(fingerprint), hint.body)
                pipeline.expire(hints_of(fingerprint), STALE_SECONDS)
                pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise RedisUnavailable(type(error).__name__) from error

    def responds(self) -> bool:
        """Return whether Redis responds within the probe's time-out."""
        try:
            return bool(self._probe.ping())
        except (redis.RedisError, OSError):
            return False

    def _pop(self, seconds: float) -> bytes | None:
        fingerprint = self._fingerprint()
        assert fingerprint is not None, "is_known was asked before"
        if not self._earlier_expires:
            self._earlier.let_expire()
            self._earlier_expires = True
        if self._clock.is_old:
            self._clock.read()  # before the wait, so that nothing stands between a hint and the claim
        own, others = hints_of(fingerprint), DramatiqQueue(self._client, namespace_of(fingerprint))
        # BLPOP with a time-out of 0 would wait for ever.
        popped = self._client.blpop([own, others.list, self._earlier.list], timeout=max(seconds, 0.01))
        if popped is None:
            return None
        key, entry = cast("tuple[bytes, bytes]", popped)
        for queue in (others, self._earlier):
            if key.decode() == queue.list:
                return queue.take(entry)
        return entry


def _decode(body: bytes) -> Message[Any] | None:
    try:
        return Message.decode(body)
    except Exception:  # foreign bytes can make the decoder raise anything
        return None


def _is_valid(message: Message[Any]) -> bool:
    """Whether a message is a hint as ``execute_stage.send`` makes it. Never raises, whatever JSON its parts are."""
    return (
        message.actor_name == ACTOR
        and message.queue_name == QUEUE
        and type(message.args) in (list, tuple)
        and [type(argument) for argument in message.args] == [str]
        and _is_id(message.args[0])
        and message.kwargs == {}
        and type(message.message_timestamp) in (int, float)
        and 0 < message.message_timestamp < LATEST_TIMESTAMP
    )


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _log_invalid(message: Message[Any] | None) -> None:
    if message is None or message.actor_name == ACTOR:
        log.warning("hint.malformed", extra={"error": "not a hint of ours"})
    else:
        log.warning("hint.unknown_actor", extra={"actor": str(message.actor_name)[:100]})
