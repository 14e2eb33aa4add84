"""Peewee's pool, changed so that a PostgreSQL process that hangs blocks no thread for ever.

The server enforces ``statement_timeout``, and ``tcp_user_timeout`` detects only a machine that no longer acknowledges
bytes. Neither ends the wait for a server process that is frozen on a machine that still runs.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import psycopg2
from playhouse.pool import PooledPostgresqlDatabase

from vm_webapp.loops import Loop

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0


class Pool(PooledPostgresqlDatabase):
    """A pool that sends the server nothing while it holds its lock, and whose connections other threads can break."""

    @property
    def taken(self) -> int:
        """How many connections are in use."""
        return len(self._in_use)

    def break_taken(self, *, before: float) -> int:
        """Break every connection that was taken before some time and is still in use; its thread gets an error.

        Args:
            before: seconds since the epoch.

        Returns:
            How many were broken.
        """
        # A copy instead of the pool's lock: the thread that holds that lock may itself be waiting for the server.
        stuck = [taken.connection for taken in self._in_use.copy().values() if taken.checked_out < before]
        for connection in stuck:
            _shut_down(connection)
        return len(stuck)

    def _is_closed(self, connection: Any) -> bool:
        # Peewee's own check sends a query while it holds the lock that every thread needs to take or return a
        # connection. Polling the socket needs no response: a server that ended an idle session has sent an error or
        # closed the connection, and either makes the socket readable.
        if connection.closed:
            return True
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN)
        return bool(poller.poll(0))


# Weak, so that the pool of a thread that has ended can be freed.
_limits: WeakKeyDictionary[Pool, float] = WeakKeyDictionary()
_lock = threading.Lock()


def limit_checkouts(pool: Pool, *, seconds: float) -> None:
    """From now on, break each of a pool's connections that a thread has held for longer than this."""
    with _lock:
        _limits[pool] = seconds
        _loop.start()


def break_stuck_connections() -> None:
    """Break the connections that threads have held for longer than the limits of their pools."""
    with _lock:
        limited = list(_limits.items())
    for pool, seconds in limited:
        # Wall-clock time, because that is what Peewee's pool records when it hands out a connection.
        broken = pool.break_taken(before=time.time() - seconds)
        if broken:
            log.error("database.hangs", extra={"connections": broken, "seconds": seconds})


_loop = Loop("stuck-connections", break_stuck_connections, every_seconds=CHECK_SECONDS)


def _shut_down(connection: Any) -> None:
    # Shutting the socket down wakes the thread that reads from it; closing it would not. A duplicate of its descriptor,
    # because psycopg2 still owns the original. Its owner may have closed it meanwhile.
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
