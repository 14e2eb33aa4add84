"""Notices to those who follow a run: that it has new events, and what its model is writing."""

from __future__ import annotations

import threading
from typing import NamedTuple

import redis

from actors.sender import Lane, Sender

# Those who follow a run read at most every 20 ms.
REST_SECONDS = 0.01
MOST_UNHEARD = 1000


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
        self._unheard: dict[str, None] = {}  # channels, the newest last
        self._lock = threading.Lock()

    def put(self, sender: Sender, notice: Notice) -> None:
        """Queue a notice."""
        # Of two equal ones the later: followers that read then find all that was committed before it was queued.
        sender.put(self.lane, notice, key=notice)

    def is_heard(self, channel: str) -> bool:
        """Return False if nobody had subscribed to a channel when a notice was last published on it."""
        with self._lock:
            return channel not in self._unheard

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
            self._unheard.pop(channel, None)
            if not count:
                self._unheard[channel] = None
            if len(self._unheard) > MOST_UNHEARD:
                del self._unheard[next(iter(self._unheard))]
