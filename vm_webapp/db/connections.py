"""Peewee's pool, changed so that a PostgreSQL process that hangs blocks no thread for ever.

The server enforces ``statement_timeout``, and ``tcp_user_timeout`` detects only a machine that no longer acknowledges
bytes. Neither ends the wait for a server process that is frozen on a machine that still runs.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

import psycopg2
from peewee import Psycopg2Adapter
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase

from vm_webapp.db.poolers import Connection, Connector, Mode, find_mode, says_full, shut_down
from vm_webapp.loops import Loop
from vm_webapp.text import first_line

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
TRY_AGAIN_SECONDS = 1.0
NO_MORE = "the server has no connection left for this process"
# pg_stat_activity hides the type and the state of other roles' sessions from a role without privileges. Such a row
# counts as a client's if it has a role and a database; most background processes lack one of them.
CLIENTS = "backend_type = 'client backend' OR (backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL)"
MOST_CLIENTS = (
    "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true)::int, 0)"
)
FREE = f"SELECT {MOST_CLIENTS} - (SELECT count(*) FROM pg_stat_activity WHERE {CLIENTS})"
NOT_DURABLE = "SET LOCAL synchronous_commit = off"


class _Adapter(Psycopg2Adapter):
    """Peewee's adapter to the driver, with our way to open a connection. Each ``Pool.init`` makes one."""

    _connector: Connector | None = None

    def connect(self, db: Any, **options: Any) -> Connection:
        if self._connector is None:
            self._connector = Connector(options["parameters"], options["settings"])
        return self._connector.open()


class _Crowded(MaxConnectionsExceeded):
    """A connection was opened, and closed again because it was one of the last."""


class Pool(PooledPostgresqlDatabase):
    """A pool that sends the server nothing while it holds its lock, and whose connections other threads can break.

    The settings of its sessions are start-up options. Where a pooler stands in between and these do not reach
    PostgreSQL, every transaction brings them along, in one message with BEGIN, and a statement outside of a transaction
    does in one message with itself.

    Among the options of ``init``, ``parameters`` are those of libpq, and ``settings`` the ``SessionSettings``.
    """

    psycopg2_adapter = _Adapter
    _leave_free = 0
    _full_until = 0.0
    _full_logged = False

    def leave_free(self, count: int) -> None:
        """From now on, leave so many connections of the server to others; forget that it was full."""
        self._leave_free, self._full_until, self._full_logged = count, 0.0, False

    @property
    def full(self) -> bool:
        """Whether the server, or a pooler, has just refused this pool a further connection."""
        return time.monotonic() < self._full_until

    @contextmanager
    def begun(self, *, durable: bool) -> Iterator[None]:
        """Run the block in a transaction on a connection of the pool.

        Where the server is full, a pool that has connections waits for one of its own.
        """
        deadline = time.monotonic() + (cast(Any, self)._wait_timeout or 0)
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(self.connection_context())
                    held.enter_context(self.atomic(durable=durable))
                    break
                except _Crowded:
                    held.close()
                    if not self._has_any() or time.monotonic() > deadline:
                        raise
            yield

    def is_crowded(self, needed: int) -> bool:
        """Whether fewer connections of the server are free; through a pooler its own limits count. In a transaction."""
        connection: Connection = self.connection()
        return not connection.proxied and self._send(FREE).fetchone()[0] < needed

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
            *found, free = self._send(f"BEGIN; {connection.question}, ({FREE}) AS free").fetchone()
            connection.note_backend(*found)
            self._give_back_if_crowded(connection, free)
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

    def _connect(self) -> Connection:
        # Peewee's wait for a connection goes on after this error, until one of this pool's own is free.
        if self.full and self._in_use and not cast(Any, self)._connections:
            raise MaxConnectionsExceeded(NO_MORE)
        try:
            connection: Connection = cast(Any, super())._connect()
        except psycopg2.OperationalError as error:
            if not says_full(error):
                raise
            self._note_full(first_line(error))
            if self._has_any():
                raise MaxConnectionsExceeded(NO_MORE) from error
            raise
        return connection

    def _has_any(self) -> bool:
        # Idle ones too: one may have been returned a moment ago.
        return bool(self._in_use or cast(Any, self)._connections)

    def _give_back_if_crowded(self, connection: Connection, free: int) -> None:
        # Through a pooler its own limits count.
        if free < self._leave_free and not connection.proxied:
            self._note_full(f"fewer than {self._leave_free} connections are free")
            connection.close()
            raise _Crowded(NO_MORE)
        self._full_logged = False

    def _note_full(self, reason: str) -> None:
        self._full_until = time.monotonic() + TRY_AGAIN_SECONDS
        # Once, not at each attempt; a command reports it by itself.
        if self._leave_free and not self._full_logged:
            log.warning("database.full", extra={"error": reason, "connections": self.taken})
            self._full_logged = True

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
