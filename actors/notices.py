"""Notices to those who follow a run: that it has new events, and what its model is writing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

import redis

from actors.sender import Lane, Sender
from vm_webapp.execution.progress import Listeners
from vm_webapp.redis_keys import channel_of, followers_of

REST_SECONDS = 0.02  # as often as those who follow a run read
MOST_COUNTED = 1000


class Notice(NamedTuple):
    """A message to those who follow a run: a piece of text as JSON; "" if the run has changed."""

    run_id: UUID
    text: str


class Notices:
    """Publishes the notices that wait in one round trip, and equal ones among them once.

    Args:
        fingerprint: returns whose runs these are, None while it is not known.

    Attributes:
        client: publishes; None without Redis.
        lane: to be given to the sender.
    """

    def __init__(self, fingerprint: Callable[[], str | None]) -> None:
        self.client: redis.Redis | None = None
        self.lane: Lane[Notice] = Lane(self._publish, rest_seconds=REST_SECONDS)
        self._fingerprint = fingerprint
        self._listeners: dict[UUID, Listeners] = {}  # by run, the newest last
        self._lock = threading.Lock()

    def put(self, sender: Sender, notice: Notice) -> None:
        """Queue a notice."""
        # Of two equal ones the later: followers that read then find all that was committed before it was queued.
        sender.put(self.lane, notice, key=notice)

    def listeners(self, run_id: UUID) -> Listeners | None:
        """Return who had begun to listen when a piece of text of a run was last published, None if none was."""
        with self._lock:
            return self._listeners.get(run_id)

    def _publish(self, notices: list[Notice]) -> list[redis.ResponseError]:
        fingerprint = None if self.client is None else self._fingerprint()
        if self.client is None or fingerprint is None:
            return []
        with self.client.pipeline(transaction=False) as pipeline:
            for run_id, text in notices:
                pipeline.publish(channel_of(fingerprint, run_id), text)
                if text:
                    pipeline.smembers(followers_of(fingerprint, run_id))
            replies = iter(pipeline.execute(raise_on_error=False))
        refusals = []
        for run_id, text in notices:
            count, words = next(replies), next(replies) if text else set()
            if error := next((each for each in (count, words) if isinstance(each, redis.ResponseError)), None):
                refusals.append(error)
            elif text:
                self._note_listeners(run_id, Listeners(count, frozenset(words)))
        return refusals

    def _note_listeners(self, run_id: UUID, listeners: Listeners) -> None:
        with self._lock:
            self._listeners.pop(run_id, None)
            self._listeners[run_id] = listeners
            if len(self._listeners) > MOST_COUNTED:
                del self._listeners[next(iter(self._listeners))]
