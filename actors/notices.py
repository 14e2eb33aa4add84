"""Notices to those who follow a run: that it has new events, and what its model is writing."""

from __future__ import annotations

import threading
from typing import NamedTuple

import redis

from actors.sender import Lane, Sender

# Those who follow a run read at most every 20 ms.
REST_SECONDS = 0.01
MOST_COUNTED = 1000


class Notice(NamedTuple):
    """A message to publish on a channel."""

    channel: str
    text: str


class Notices:
    """Publishes the notices that wait in one round trip, and equal ones among them once.

    Attributes:
        client: publishes; None without Redis.
        lane: to be given to the sender.
    """

    def __init__(self) -> None:
        self.client: redis.Redis | None = None
        self.lane: Lane[Notice] = Lane(self._publish, rest_seconds=REST_SECONDS)
        self._listeners: dict[str, int] = {}  # by channel, the newest last
        self._lock = threading.Lock()

    def put(self, sender: Sender, notice: Notice) -> None:
        """Queue a notice."""
        # Of two equal ones the later: followers that read then find all that was committed before it was queued.
        sender.put(self.lane, notice, key=notice)

    def listeners(self, channel: str) -> int | None:
        """Return how many had subscribed to a channel when a notice was last published on it, None if none was."""
        with self._lock:
            return self._listeners.get(channel)

    def _publish(self, notices: list[Notice]) -> list[redis.ResponseError]:
        if self.client is None:
            return []
        with self.client.pipeline(transaction=False) as pipeline:
            for notice in notices:
                pipeline.publish(notice.channel, notice.text)
            replies = pipeline.execute(raise_on_error=False)
        for notice, reply in zip(notices, replies, strict=True):
            if not isinstance(reply, redis.ResponseError):
                self._note_listeners(notice.channel, reply)
        return [reply for reply in replies if isinstance(reply, redis.ResponseError)]

    def _note_listeners(self, channel: str, count: int) -> None:
        with self._lock:
            self._listeners.pop(channel, None)
            self._listeners[channel] = count
            if len(self._listeners) > MOST_COUNTED:
                del self._listeners[next(iter(self._listeners))]
