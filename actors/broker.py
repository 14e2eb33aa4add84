"""The broker. It sends hints over Redis, and its consumers claim due stages in PostgreSQL.

A hint is a Dramatiq message that says that a stage may be due. Losing one costs latency only: polling finds the stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any
from uuid import UUID

import redis
from dramatiq.broker import Broker, Consumer
from dramatiq.brokers.redis import RedisBroker
from dramatiq.message import Message
from dramatiq.middleware import Middleware

from actors.consumer import ClaimingConsumer, WorkSource
from actors.hints import HintQueue
from actors.redis_clock import RedisClock
from actors.sender import Notice, Sender
from actors.wake_list import WakeList
from vm_webapp.execution.progress import StageProgress
from vm_webapp.redis_client import quick_client
from vm_webapp.runs.channels import channel_of

NAMESPACE = "vm"
HINT_TIMEOUT_SECONDS = 0.1
CONSUMER_TIMEOUT_SECONDS = 1.0


class HintBroker(Broker):
    """A Dramatiq broker over Redis that also works without Redis.

    Args:
        work: where consumers claim due stages.
        middleware: Dramatiq's hooks.

    Attributes:
        sender: sends to Redis on a thread of its own.
        url: the URL of Redis, None without Redis.
    """

    def __init__(self, work: WorkSource, middleware: Iterable[Middleware]) -> None:
        super().__init__(middleware=list(middleware))
        self.queues: set[str] = set()
        self._work = work
        self.sender = Sender()
        self.url: str | None = None
        self._hint_broker: RedisBroker | None = None
        self._wake_list: WakeList | None = None
        self._redis_clock: RedisClock | None = None
        self._notices: redis.Redis | None = None

    @property
    def hints_failed(self) -> int:
        """How many hints and notices failed or were dropped since the process started."""
        return self.sender.failed

    def bind(self, redis_url: str | None) -> None:
        """Set the URL of Redis, None to work without Redis. No connection is opened yet."""
        self.url = redis_url
        self._hint_broker = self._wake_list = self._redis_clock = self._notices = None
        if redis_url is not None:
            client = quick_client(redis_url, HINT_TIMEOUT_SECONDS)
            self._hint_broker = RedisBroker(client=client, namespace=NAMESPACE, middleware=[])
            self._wake_list = WakeList(client, NAMESPACE)
            self._redis_clock = RedisClock(client)
            self._notices = client

    def wake_followers(self, run_id: UUID) -> None:
        """Publish to the run's followers that it has new events."""
        self._publish(run_id, "")

    def report(self, run_id: UUID, progress: StageProgress) -> bool:
        """Publish to the run's followers what the model is writing; return False if lately nobody followed the run."""
        self._publish(run_id, json.dumps(asdict(progress)))
        return self.sender.is_heard(channel_of(run_id))

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue, without a delay queue: delays are in PostgreSQL (``available_at``)."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        """Return the names of the declared queues."""
        return set(self.queues)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Send a hint and wake a worker, on another thread. Never raises and never waits for Redis."""
        if self.url is not None:
            self.sender.put(lambda: self._send(message))
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Return a consumer that claims due stages in PostgreSQL, when hints arrive from Redis and at intervals."""
        hints = wake_list = None
        if self.url is not None:
            client = quick_client(self.url, CONSUMER_TIMEOUT_SECONDS)
            stock = RedisBroker(client=client, namespace=NAMESPACE, middleware=[])
            hints = HintQueue(stock, queue_name)
            wake_list = WakeList(client, NAMESPACE, probe=quick_client(self.url, HINT_TIMEOUT_SECONDS))
        return ClaimingConsumer(queue_name, slots=prefetch, hints=hints, wake_list=wake_list, work=self._work)

    def _publish(self, run_id: UUID, notice: str) -> None:
        # Bound now: by the time the sender calls it, ``bind`` may have replaced the client.
        client = self._notices
        if client is not None:
            self.sender.publish(Notice(client, channel_of(run_id), notice))

    def _send(self, message: Message[Any]) -> None:
        broker, wake_list, clock = self._hint_broker, self._wake_list, self._redis_clock
        if broker is not None and wake_list is not None and clock is not None:
            # Stamped by the clock that workers tell its age by. The message has this machine's time so far.
            broker.enqueue(message.copy(message_timestamp=int(clock.now() * 1000)))
            # In this order: a worker that is woken before the hint is in its queue finds nothing, and waits again.
            wake_list.push()
