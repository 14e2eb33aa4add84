"""The broker: hints go out over Redis quickly or not at all; workers are fed from Redis and from PostgreSQL.

A hint is worth 100 ms and no more. It may be lost, so failing to send one is counted and otherwise no failure.
"""

from __future__ import annotations

import logging
import time

import dramatiq
import redis
from dramatiq.broker import Broker, Consumer
from dramatiq.brokers.redis import RedisBroker
from dramatiq.message import Message
from redis.backoff import NoBackoff
from redis.retry import Retry

from actors.feed import Bell, FeedingConsumer
from actors.service import WorkerService

log = logging.getLogger(__name__)

NAMESPACE = "vm"
HINT_TIMEOUT_SECONDS = 0.1
SKIP_AFTER_FAILURE_SECONDS = 2.0
CONSUMER_TIMEOUT_SECONDS = 2.0


class HintBroker(Broker):
    """A Redis broker that may be without Redis.

    Attributes:
        hints_failed: hints that were not sent since the process began, skipped ones included.
    """

    def __init__(self, service: WorkerService) -> None:
        super().__init__(middleware=[service])
        self.queues: set[str] = set()
        self.hints_failed = 0
        self.service = service
        self._url: str | None = None
        self._hints: RedisBroker | None = None
        self._bell: Bell | None = None
        self._skip_until = 0.0

    def bind(self, redis_url: str | None) -> None:
        """Say where Redis is; None means that there is none. Nothing is connected yet."""
        self._url = redis_url
        self._hints = self._bell = None
        if redis_url is not None:
            client = _client(redis_url, HINT_TIMEOUT_SECONDS)
            self._hints = RedisBroker(client=client, namespace=NAMESPACE, middleware=[])
            self._bell = Bell(client, NAMESPACE)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue; without a delay queue, because nothing here is delayed by the broker."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        """Return the names of the declared queues."""
        return set(self.queues)

    def enqueue(self, message: Message[object], *, delay: int | None = None) -> Message[object]:
        """Send a hint and ring the bell, unless Redis failed a moment ago. Never raises for Redis' sake."""
        if self._hints is None or self._bell is None:
            return message
        if time.monotonic() < self._skip_until:
            self.hints_failed += 1
            return message
        try:
            self._hints.enqueue(message, delay=delay)
            self._bell.ring()
        except redis.RedisError as error:
            self.hints_failed += 1
            self._skip_until = time.monotonic() + SKIP_AFTER_FAILURE_SECONDS
            log.warning("hint.failed", extra={"error": type(error).__name__})
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Return a consumer that takes hints from Redis and, when there are none, due stages from PostgreSQL."""
        stock, bell = None, None
        if self._url is not None:
            client = _client(self._url, CONSUMER_TIMEOUT_SECONDS, max_connections=prefetch + 16)
            # With a time-out of zero the stock consumer never sleeps: the bell does the waiting.
            stock = RedisBroker(client=client, namespace=NAMESPACE, middleware=[]).consume(queue_name, prefetch, 0)
            bell = Bell(client, NAMESPACE)
        return FeedingConsumer(self, queue_name, slots=prefetch, stock=stock, bell=bell, service=self.service)


def _client(url: str, timeout_seconds: float, *, max_connections: int = 64) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        max_connections=max_connections,
        retry=Retry(NoBackoff(), 0),
    )


broker = HintBroker(WorkerService())
dramatiq.set_broker(broker)
