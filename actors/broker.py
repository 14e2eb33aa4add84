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
from dramatiq.message import Message
from dramatiq.middleware import Middleware

from actors.consumer import ClaimingConsumer, WorkSource
from actors.hints import HintQueue, HintSender
from actors.notices import Notice, Notices
from actors.sender import Lane, Sender
from vm_webapp.execution.progress import Listeners, StageProgress
from vm_webapp.fleet.installation import find_fingerprint, known_fingerprint
from vm_webapp.metrics import HINTS, labelled
from vm_webapp.redis_client import quick_client

HINT_TIMEOUT_SECONDS = 0.1
HINT_REST_SECONDS = 0.002  # of many runs that are created at once, each would cost two round trips
CONSUMER_TIMEOUT_SECONDS = 1.0


class HintBroker(Broker):
    """A Dramatiq broker over Redis that also works without Redis.

    Args:
        work: where consumers claim due stages.
        middleware: Dramatiq's hooks.

    Attributes:
        notices: to those who follow a run.
        sender: sends hints and notices to Redis, most of them on a thread of its own.
        url: the URL of Redis, None without Redis.
    """

    def __init__(self, work: WorkSource, middleware: Iterable[Middleware]) -> None:
        super().__init__(middleware=list(middleware))
        self.queues: set[str] = set()
        self._work = work
        self.url: str | None = None
        self._hint_sender: HintSender | None = None
        self._hints: Lane[Message[Any]] = Lane(
            self._send, rest_seconds=HINT_REST_SECONDS, note=_count_hints, offer=self._offer
        )
        self.notices = Notices(find_fingerprint)
        self.sender = Sender(self._hints, self.notices.lane)

    @property
    def hints_failed(self) -> int:
        """How many hints and notices failed or were dropped since the process started."""
        return self.sender.failed

    def bind(self, redis_url: str | None) -> None:
        """Set the URL of Redis, None to work without Redis. No connection is opened yet."""
        self.url = redis_url
        client = None if redis_url is None else quick_client(redis_url, HINT_TIMEOUT_SECONDS)
        self._hint_sender = None if client is None else HintSender(client, find_fingerprint)
        self.notices.client = client

    def wake_followers(self, run_id: UUID) -> None:
        """Publish to the run's followers that it has new events."""
        self._publish(run_id, "")

    def report(self, run_id: UUID, progress: StageProgress) -> Listeners | None:
        """Publish to the run's followers what the model is writing.

        Returns:
            Who heard the last piece of this run, None if that is not known.
        """
        self._publish(run_id, json.dumps(asdict(progress)))
        return self.notices.listeners(run_id)

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
        """Send a hint, which wakes a worker. Never raises and never waits for Redis."""
        if self.url is not None:
            self.sender.put(self._hints, message, key=message.message_id)
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Return a consumer that claims due stages in PostgreSQL, when hints arrive from Redis and at intervals."""
        hints = None
        if self.url is not None:
            client = quick_client(self.url, CONSUMER_TIMEOUT_SECONDS)
            hints = HintQueue(client, known_fingerprint, probe=quick_client(self.url, HINT_TIMEOUT_SECONDS))
        return ClaimingConsumer(queue_name, slots=prefetch, hints=hints, work=self._work)

    def _publish(self, run_id: UUID, text: str) -> None:
        if self.url is not None:
            self.notices.put(self.sender, Notice(run_id, text))

    def _offer(self, hint: Message[Any]) -> bool:
        sender = self._hint_sender
        return sender is not None and sender.offer(hint)

    def _send(self, hints: list[Message[Any]]) -> list[redis.ResponseError]:
        sender = self._hint_sender
        return [] if sender is None else sender.send(hints)


def _count_hints(sent: int, failed: int) -> None:
    labelled(HINTS, "sent").inc(sent)
    labelled(HINTS, "failed").inc(failed)
