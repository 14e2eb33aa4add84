"""Peewee's pool, made so that a PostgreSQL that hangs holds nobody up for ever.

``statement_timeout`` is kept by the server, and ``tcp_user_timeout`` sees only a machine that no longer acknowledges
bytes. A server process that is frozen while its machine lives would keep a thread waiting for good.
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

LOOK_SECONDS = 1.0


class Pool(PooledPostgresqlDatabase):
    """A pool that asks the server nothing while it holds its lock, and whose connections can be broken from outside."""

    @property
    def taken(self) -> int:
        """How many connections are in use."""
        return len(self._in_use)

    def break_taken(self, *, before: float) -> int:
        """Break every connection that was taken before some time and is still in use; its thread sees an error.

        Args:
            before: seconds since the epoch.

        Returns:
            How many were broken.
        """
        # A copy, and no lock: its holder may be waiting for the server itself.
        hanging = [taken.connection for taken in self._in_use.copy().values() if taken.checked_out < before]
        for connection in hanging:
            _shut_down(connection)
        return len(hanging)

    def _is_closed(self, connection: Any) -> bool:
        # Peewee's asks the server, under the lock that every thread needs to take a connection or give it back.
        # A server that has ended an idle session has said so or hung up: either way there is something to read.
        if connection.closed:
            return True
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN)
        return bool(poller.poll(0))


_patience: WeakKeyDictionary[Pool, float] = WeakKeyDictionary()
_lock = threading.Lock()


def watch(pool: Pool, *, patience_seconds: float) -> None:
    """Break a pool's connections, from now on, when a thread has had one for so long."""
    with _lock:
        _patience[pool] = patience_seconds
        _watch.start()


def break_hanging() -> None:
    """Break, in every pool that is watched, the connections that a thread has had for too long."""
    with _lock:
        watched = list(_patience.items())
    for pool, seconds in watched:
        broken = pool.break_taken(before=time.time() - seconds)
        if broken:
            log.error("database.hangs", extra={"connections": broken, "seconds": seconds})


_watch = Loop("pool-watch", break_hanging, every_seconds=LOOK_SECONDS)


def _shut_down(connection: Any) -> None:
    # It may be closed already.
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
