"""Peewee's pool, changed: no thread waits for the server under its lock, and no turn for a connection is missed.

It leaves connections of the server to others, and other threads can break those that are in use.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, cast

import psycopg2
from peewee import Psycopg2Adapter
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase

from vm_webapp.db.poolers import Connection, Connector, Mode, find_mode, says_full, shut_down
from vm_webapp.db.round_trips import PEEWEES_ERRORS, FewRoundTrips
from vm_webapp.metrics import POOL_WAIT_SECONDS
from vm_webapp.text import first_line

log = logging.getLogger(__name__)

TRY_AGAIN_SECONDS = 1.0
TRUSTED_SECONDS = 0.02  # how long a connection that has just responded needs no check
NO_MORE = "the server has no connection left for this process"
# pg_stat_activity hides the type and the state of other roles' sessions from a role without privileges. Such a row
# counts as a client's if it has a role and a database; most background processes lack one of them.
CLIENTS = "backend_type = 'client backend' OR (backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL)"
MOST_CLIENTS = (
    "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true)::int, 0)"
)
FREE = f"SELECT {MOST_CLIENTS} - (SELECT count(*) FROM pg_stat_activity WHERE {CLIENTS})"


class _Adapter(Psycopg2Adapter):
    """Peewee's adapter to the driver, with our way to open a connection. Each ``Pool.init`` makes one."""

    _connector: Connector | None = None

    def connect(self, db: Any, **options: Any) -> Connection:
        if self._connector is None:
            self._connector = Connector(options["parameters"], options["settings"])
        return self._connector.open()


class _Crowded(MaxConnectionsExceeded):
    """A connection was opened, and closed again because it was one of the last."""


class Pool(FewRoundTrips, PooledPostgresqlDatabase):
    """A pool that sends the server nothing while it holds its lock, and whose connections other threads can break.

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

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Wait for a turn, take a connection, and find out at its first use whether its settings are in force.

        As many threads have a turn at a time as there are connections: Peewee's own wait may miss that a connection
        became free, and then lasts up to a second. Where the server is full, it does wait for one of the pool's own.

        Raises:
            MaxConnectionsExceeded: there was no turn or no connection in time.
        """
        if not self.is_closed():
            return bool(cast(Any, super()).connect(reuse_if_open))
        deadline = time.monotonic() + (cast(Any, self)._wait_timeout or 0)
        turns = self._turns
        while _taken(turns, until=deadline):
            self._turn.of = turns
            try:
                self._take()
                self._verify()
            except _Crowded:
                self.close()
                if not self._has_any():
                    raise
            except BaseException:
                self.close()
                raise
            else:
                return True
        raise MaxConnectionsExceeded(NO_MORE if self.full else "every connection of this process was in use")

    def close(self) -> bool:
        """Return the connection and the turn."""
        state = cast(Any, self)._state
        if state.transactions:
            return bool(cast(Any, super()).close())  # raises
        connection, turns = state.conn, getattr(self._turn, "of", None)
        state.reset()
        try:
            if connection is not None:
                cast(Any, self)._close(connection)
        finally:
            if turns is not None:
                self._turn.of = None
                turns.put(None)
        return connection is not None

    def init(self, database: str | None, *arguments: Any, **options: Any) -> None:
        """Point the pool at a database, and close the idle connections to the one before."""
        # Each thread returns its turn to where it took it: another ``init`` may come in between.
        most: int = options.get("max_connections") or cast(Any, self)._max_connections
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(most):
            self._turns.put(None)
        self._turn = threading.local()
        cast(Any, super()).init(database, *arguments, **options)
        self.close_idle()

    @contextmanager
    def begun(self, *, durable: bool) -> Iterator[None]:
        """Run the block in a transaction on a connection of the pool."""
        with self.connection_context(), self.atomic(durable=durable):
            yield

    def is_crowded(self, needed: int) -> bool:
        """Whether fewer connections of the server are free; through a pooler its own limits count. In a transaction."""
        connection: Connection = self.connection()
        return not connection.proxied and self._send(FREE).fetchone()[0] < needed

    def find_mode(self) -> Mode:
        """Find out what the connection of the current thread is, which is in no transaction.

        Raises:
            psycopg2.Error: it broke.
        """
        connection: Connection = self.connection()
        adapter = cast(Any, self)._adapter
        return find_mode(lambda: adapter.connect(self, **self.connect_params), connection)

    def _take(self) -> None:
        # An idle connection is taken without the lock that Peewee holds around this, also while it opens one.
        if cast(Any, self)._connections:
            with suppress(MaxConnectionsExceeded), PEEWEES_ERRORS:
                cast(Any, self)._state.set_connection(cast(Any, self)._connect())
                return
        cast(Any, super()).connect()

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

    def _verify(self) -> None:
        connection: Connection = self.connection()
        if connection.verified:
            return
        *found, free = self._send(f"{connection.question}, ({FREE}) AS free").fetchone()
        connection.note_backend(*found)
        # Through a pooler its own limits count.
        if free < self._leave_free and not connection.proxied:
            self._note_full(f"fewer than {self._leave_free} connections are free")
            with cast(Any, self)._pool_lock:
                self._in_use.pop(id(connection), None)  # or it would come back as an idle one
            connection.close()
            raise _Crowded(NO_MORE)
        self._full_logged = False

    def _note_full(self, reason: str) -> None:
        self._full_until = time.monotonic() + TRY_AGAIN_SECONDS
        # Once, not at each attempt; a command reports it by itself.
        if self._leave_free and not self._full_logged:
            log.warning("database.full", extra={"error": reason, "connections": self.taken})
            self._full_logged = True

    @property
    def taken(self) -> int:
        """How many connections are in use."""
        return len(self._in_use)

    @property
    def idle(self) -> int:
        """How many connections are open and not in use."""
        return len(cast(Any, self)._connections)

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

    def _can_reuse(self, connection: Connection) -> bool:
        # One that was taken before the last ``init`` is a connection to the database before.
        if connection.settings is not self.connect_params["settings"]:
            return False
        connection.returned_at = time.monotonic()
        return bool(cast(Any, super())._can_reuse(connection))

    def _is_closed(self, connection: Connection) -> bool:
        # Peewee's own check sends a query while it holds the lock that every thread needs to take or return a
        # connection. Polling the socket needs no response: a server that ended an idle session has sent an error or
        # closed the connection, and either makes the socket readable.
        #
        # Not right after a response, because each call of the system lets another thread of this process run first.
        if connection.closed:
            return True
        if time.monotonic() - connection.returned_at < TRUSTED_SECONDS:
            return False
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN)
        return bool(poller.poll(0))


def _taken(turns: SimpleQueue[None], *, until: float) -> bool:
    """Wait for a turn until a monotonic time; return whether there was one."""
    with suppress(Empty):
        turns.get_nowait()
        return True
    began = time.monotonic()
    try:
        turns.get(timeout=max(0.0, until - began))
    except Empty:
        return False
    finally:
        POOL_WAIT_SECONDS.observe(time.monotonic() - began)
    return True
