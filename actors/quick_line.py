"""A connection to Redis on which commands are sent without waiting for their replies, which are read some time later.

Handing something to a thread that sends it takes up to the interpreter's switch interval, several milliseconds. What is
small goes into the socket's buffer at once.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis
from redis.connection import ConnectionInterface

# A socket's buffer takes more than twice as many small rounds, so that no send ever waits.
MOST_UNANSWERED = 16
Command = tuple[Any, ...]


class QuickLine:
    """Sends rounds of commands, and reads their replies later.

    Args:
        client: whose address, user and time-outs it uses.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._connection: ConnectionInterface | None = None
        self._unanswered: deque[int] = deque()  # the number of commands of each round
        self._is_broken = False
        self._process: int | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        """Connect, unless there is a connection.

        Raises:
            redis.RedisError: Redis does not respond.
        """
        with self._lock:
            if self._connection is None or self._process != os.getpid():
                connection = self._client.connection_pool.make_connection()
                connection.connect()
                # A forked process inherits the connection, which belongs to its parent.
                self._connection, self._process = connection, os.getpid()
                self._unanswered.clear()
                self._is_broken = False

    def offer(self, commands: Sequence[Command]) -> bool:
        """Send a round of commands if that is possible without waiting; return whether it was."""
        if not self._lock.acquire(blocking=False):
            return False  # replies are being read
        try:
            if self._connection is None or self._process != os.getpid():
                return False
            if self._is_broken or len(self._unanswered) >= MOST_UNANSWERED:
                return False
            if not self._unanswered and self._has_ended(self._connection):
                self._close()
                return False
            try:
                self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
            except (redis.RedisError, OSError):
                self._is_broken = True  # the rounds before may be lost as well, which ``collect`` says
                return False
            self._unanswered.append(len(commands))
            return True
        finally:
            self._lock.release()

    def collect(self) -> list[list[Any]]:
        """Read the replies to all rounds, an error of Redis' in place of a reply that is one.

        Raises:
            redis.RedisError: Redis does not respond; the connection is closed.
        """
        replies: list[list[Any]] = []
        with self._lock:
            if self._process != os.getpid():
                return []
            try:
                if self._is_broken:
                    raise redis.ConnectionError("the connection broke")
                while self._unanswered and self._connection is not None:
                    replies.append([self._read(self._connection) for _ in range(self._unanswered[0])])
                    self._unanswered.popleft()
            except (redis.RedisError, OSError) as error:
                self._close()
                raise error if isinstance(error, redis.RedisError) else redis.ConnectionError(str(error)) from error
        return replies

    @staticmethod
    def _has_ended(connection: ConnectionInterface) -> bool:
        # With no reply under way, all that can be read is that Redis has closed the connection.
        try:
            return connection.can_read(0)
        except (redis.RedisError, OSError):
            return True

    @staticmethod
    def _read(connection: ConnectionInterface) -> Any:
        try:
            return connection.read_response()
        except redis.ResponseError as error:
            return error

    def _close(self) -> None:
        self._unanswered.clear()
        self._is_broken = False
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
