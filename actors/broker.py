"""The broker: hints go out over Redis quickly or not at all; workers are fed from Redis and from PostgreSQL."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.broker import Broker, Consumer
from dramatiq.brokers.redis import RedisBroker
from dramatiq.message import Message

from actors.bell import Bell
from actors.feed import FeedingConsumer
from actors.hints import HintQueue
from actors.sender import HintSender
from actors.service import WorkerService
from vm_webapp.redis_client import quick_client

NAMESPACE = "vm"
HINT_TIMEOUT_SECONDS = 0.1
CONSUMER_TIMEOUT_SECONDS = 2.0


class HintBroker(Broker):
    """A Redis broker that may be without Redis.

    Attributes:
        service: the middleware that makes a Dramatiq worker one of ours.
        hints: how hints are sent.
    """

    def __init__(self, service: WorkerService) -> None:
        super().__init__(middleware=[service])
        self.queues: set[str] = set()
        self.service = service
        self.hints = HintSender(self._send)
        self._url: str | None = None
        self._hint_broker: RedisBroker | None = None
        self._bell: Bell | None = None

    @property
    def hints_failed(self) -> int:
        """Hints that were not sent since the process began, skipped ones included."""
        return self.hints.failed

    def bind(self, redis_url: str | None) -> None:
        """Say where Redis is; None means that there is none. Nothing is connected yet."""
        self._url = redis_url
        self._hint_broker = self._bell = None
        if redis_url is not None:
            client = quick_client(redis_url, HINT_TIMEOUT_SECONDS)
            self._hint_broker = RedisBroker(client=client, namespace=NAMESPACE, middleware=[])
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

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Send a hint and ring the bell, on another thread. Never raises and never waits for Redis' sake."""
        if self._url is not None:
            self.hints.put(message)
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Return a consumer that takes hints from Redis and, when there are none, due stages from PostgreSQL."""
        hints = bell = None
        if self._url is not None:
            client = quick_client(self._url, CONSUMER_TIMEOUT_SECONDS, max_connections=prefetch + 16)
            stock = RedisBroker(client=client, namespace=NAMESPACE, middleware=[])
            hints, bell = HintQueue(stock, queue_name), Bell(client, NAMESPACE)
        return FeedingConsumer(queue_name, slots=prefetch, hints=hints, bell=bell, service=self.service)

    def _send(self, message: Message[Any]) -> None:
        broker, bell = self._hint_broker, self._bell
        if broker is not None and bell is not None:
            broker.enqueue(message)
            bell.ring()


broker = HintBroker(WorkerService())
dramatiq.set_broker(broker)
