"""Peewee's pool, changed so that a PostgreSQL process that hangs blocks no thread for ever.

The server enforces ``statement_timeout``, and ``tcp_user_timeout`` detects only a machine that no longer acknowledges
bytes. Neither ends the wait for a server process that is frozen on a machine that still runs.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from typing import Any, cast
from weakref import WeakKeyDictionary

from peewee import Psycopg2Adapter
from playhouse.pool import PooledPostgresqlDatabase

from vm_webapp.db.poolers import Connection, Connector, Mode, find_mode, shut_down
from vm_webapp.loops import Loop

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
NOT_DURABLE = "SET LOCAL synchronous_commit = off"


class _Adapter(Psycopg2Adapter):
    """Peewee's adapter to the driver, with our way to open a connection. Each ``Pool.init`` makes one."""

    _connector: Connector | None = None

    def connect(self, db: Any, **options: Any) -> Connection:
        if self._connector is None:
            self._connector = Connector(options["parameters"], options["settings"])
        return self._connector.open()


class Pool(PooledPostgresqlDatabase):
    """A pool that sends the server nothing while it holds its lock, and whose connections other threads can break.

    The settings of its sessions are start-up options. Where a pooler stands in between and these do not reach
    PostgreSQL, every transaction brings them along, in one message with BEGIN, and a statement outside of a transaction
    does in one message with itself.

    Among the options of ``init``, ``parameters`` are those of libpq, and ``settings`` the ``SessionSettings``.
    """

    psycopg2_adapter = _Adapter

    def begin(self, isolation_level: str | None = None, *, durable: bool = True) -> None:
        """Begin a transaction with the settings of the pool's sessions.

        Args:
            isolation_level: part of Peewee's signature; the server's default is used.
            durable: False lets COMMIT return before the change is on disk.
        """
        connection: Connection = self.connection()
        if connection.verified and not connection.in_force:
            self._send(f"BEGIN; {_for_transaction(connection, durable=durable)}")
            return
        if connection.verified:
            super().begin()
        else:
            # In one message with the first BEGIN, so that it costs no round trip.
            connection.note_backend(*self._send(f"BEGIN; {connection.question}").fetchone())
        if not connection.in_force:
            self._send(_for_transaction(connection, durable=durable))
        elif not durable:
            self.execute_sql(NOT_DURABLE)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Execute a statement, outside of a transaction together with the settings that it needs."""
        if not self.in_transaction() and not self.is_closed():
            settings = self._settings_for_statement()
            # psycopg2 replaces %% only where there are parameters.
            sql = f"{settings.replace('%', '%%') if params else settings}{sql}"
        return cast(Any, super()).execute_sql(sql, params)

    def find_mode(self) -> Mode:
        """Find out what the connection of the current thread is, which is in no transaction.

        Raises:
            psycopg2.Error: it broke.
        """
        connection: Connection = self.connection()
        adapter = cast(Any, self)._adapter
        return find_mode(lambda: adapter.connect(self, **self.connect_params), connection)

    def _send(self, sql: str) -> Any:
        # Peewee's ``execute_sql`` without what ours adds; it turns psycopg2's errors into Peewee's.
        return cast(Any, self)._execute_cursor(sql, None)

    def _settings_for_statement(self) -> str:
        connection: Connection = self.connection()
        if not connection.verified:
            connection.note_backend(*self._send(connection.question).fetchone())
        return "" if connection.in_force else f"{connection.settings.for_transaction}; "

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
            shut_down(connection)
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


def _for_transaction(connection: Connection, *, durable: bool) -> str:
    settings = connection.settings.for_transaction
    return settings if durable else f"{settings}; {NOT_DURABLE}"
