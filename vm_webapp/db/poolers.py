"""Poolers between this process and PostgreSQL, such as PgBouncer: how they are noticed, and what they change.

A pooler in transaction mode gives each transaction any of its sessions. So a setting made with SET, an advisory lock of
the session, a prepared statement or LISTEN reaches other clients and not this one's next transaction. Most poolers
refuse start-up options, or drop them silently. Through any proxy, transactions therefore bring their settings along.
"""

from __future__ import annotations

import math
import os
import re
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, Literal
from uuid import uuid4

import psycopg2
from psycopg2 import extensions

from vm_webapp.database_address import parse_address
from vm_webapp.db.session_settings import SessionSettings
from vm_webapp.errors import PoolerInTransactionMode

Mode = Literal["direct", "session", "transaction"]

# PgBouncer, Neon: "unsupported startup parameter: options"; PgBouncer from 1.20: "… in options: statement_timeout";
# RDS Proxy: "does not support command-line options".
OPTIONS_REFUSED = re.compile(r"startup parameter|command-line options", re.IGNORECASE)
# psycopg2 gives no SQLSTATE (53300) for a connection that the server refused, only the message. A pooler that is full
# says "no more connections allowed" (PgBouncer), "max clients reached" or "Max client connections reached" (Supabase).
FULL = re.compile(
    r"too many (clients|connections)|remaining connection slots|no more connections allowed|max clients? "
    r"|max client connections",
    re.IGNORECASE,
)
PROBE_SECONDS = 5.0
NOTICE_SECONDS = 2.0
HOLDERS = 2


class Connection(extensions.connection):
    """A connection that knows whether its settings reached PostgreSQL.

    Attributes:
        settings: the settings that its statements need.
        options_sent: whether the pooler or server accepted all of them as start-up options.
        verified: whether ``note_backend`` was called.
        options_in_force: whether they had reached the session of PostgreSQL that was asked.
        proxied: whether something between this process and PostgreSQL answers for it.
        in_force: whether the session has the settings, so that no transaction needs to bring them.
        prepared: the statements that were prepared in the session: text → name.
        to_begin: what has to be sent before the first statement of the transaction, empty once it is.
        along: statements that are to be sent with the next one of the transaction, or with its COMMIT.
        durable: whether a statement outside a transaction returns only when its change is on disk.
        returned_at: when it came back to its pool, in monotonic seconds.
    """

    settings = SessionSettings({})
    options_sent = False
    verified = False
    options_in_force = False
    proxied = False
    in_force = False
    to_begin = ""
    along = ""
    durable = True
    returned_at = -math.inf
    _made = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.prepared: dict[str, str] = {}
        self._prepared_so_far = 0

    def name_to_prepare(self) -> str:
        """Return a name under which nothing has been prepared in the session."""
        self._prepared_so_far += 1
        return f"vm_{self._prepared_so_far}"

    @property
    def question(self) -> str:
        """The query whose row ``note_backend`` takes."""
        timeout = self.settings.ours.get("statement_timeout", "0")
        return (
            "SELECT pg_backend_pid() AS pid,"
            f" current_setting('statement_timeout')::interval = '{_as_interval(timeout)}'::interval AS in_force"
        )

    def note_backend(self, pid: int, in_force: bool) -> None:
        """Conclude from the server's own process id, and from its time-out, whether there is a pooler.

        PostgreSQL tells libpq this id when the session starts; a proxy that shares sessions makes an id up.
        """
        self.verified = True
        self.proxied = pid != self.info.backend_pid
        self.options_in_force = self.options_sent and in_force
        # Not through a proxy, whose next transaction may get another session.
        self.in_force = self.options_in_force and not self.proxied

    def make_settings_for_session(self) -> None:
        """Make the settings in the session itself, and undo them when the connection is closed."""
        with self.cursor() as cursor:
            cursor.execute(self.settings.for_session)
        self._made, self.in_force = self.settings.undone, True

    def close(self) -> None:
        """Close the connection."""
        if self._made and not self.closed:
            # A pooler in session mode gives the session to somebody else; not all of them reset it.
            with suppress(psycopg2.Error), self.cursor() as cursor:
                cursor.execute(self._made)
        super().close()


class Connector:
    """Opens connections with settings, and remembers which start-up options were refused.

    Args:
        parameters: libpq's connection parameters, without ``options``.
        settings: the settings of each session.
    """

    def __init__(self, parameters: dict[str, Any], settings: SessionSettings) -> None:
        self._parameters = parameters
        self._settings = settings
        self._options = settings.start_up_options

    def open(self) -> Connection:
        """Open a connection in autocommit mode.

        Raises:
            psycopg2.OperationalError: there is none.
        """
        while True:
            options = self._options
            try:
                given = {**self._parameters, "options": options[0]} if options[0] else self._parameters
                connection: Connection = psycopg2.connect(connection_factory=Connection, **given)
                break
            except psycopg2.OperationalError as error:
                if len(options) == 1 or not OPTIONS_REFUSED.search(str(error)):
                    raise
                self._options = options[1:]
        connection.autocommit = True
        connection.settings = self._settings
        connection.options_sent = options[0] == self._settings.start_up_options[0]
        return connection


def open_session(address: str, settings: SessionSettings, **further: Any) -> Connection:
    """Open a connection that has one session of PostgreSQL for itself, with these settings.

    Args:
        address: what ``parse_address`` takes.
        settings: the settings of the session; ``options`` of the address come before them.
        further: further connection parameters of libpq.

    Raises:
        ConfigurationError: libpq does not understand the address.
        PoolerInTransactionMode: it is that of a pooler that gives every transaction another session.
        psycopg2.OperationalError: there is no connection.
    """
    parameters: dict[str, Any] = {**parse_address(address), **further}
    given = str(parameters.pop("options", ""))
    connector = Connector(parameters, SessionSettings(settings.ours, given))
    connection = connector.open()
    try:
        connection.note_backend(*_ask(connection, connection.question))
        if connection.in_force:
            return connection
        if find_mode(connector.open, connection) == "transaction":
            raise PoolerInTransactionMode
        connection.make_settings_for_session()
    except BaseException:
        connection.close()
        raise
    return connection


def find_mode(connect: Callable[[], Connection], first: Connection) -> Mode:
    """Find out what an open, idle connection is: one to PostgreSQL, or to a pooler in one of two modes.

    1. PostgreSQL itself answers with the process id that libpq knows, and takes start-up options.
    2. Other connections open transactions. One that gets the session of the first, or the first one's next statement
       getting another session, proves transaction mode.
    3. A notification that arrives while the first is idle proves session mode: only there an idle client has a session.

    What neither is proved of counts as transaction mode, in which nothing depends on a session.

    Args:
        connect: opens another connection to the same address.
        first: the connection.
    """
    backend, in_force = _ask(first, first.question)
    # A proxy may tell the id of the session that it logged in with, and still swallow the options.
    if backend == first.info.backend_pid and first.options_sent and in_force:
        return "direct"
    try:
        return "session" if _has_own_session(connect, first, backend) else "transaction"
    except psycopg2.Error:  # such as no further connection, or no statement in time
        return "transaction"


def says_full(error: BaseException) -> bool:
    """Whether an error says that the server, or a pooler, takes no more connections."""
    return FULL.search(str(error)) is not None


def shut_down(connection: Any) -> None:
    """Break a connection that another thread uses; that thread gets an error."""
    # Shutting the socket down wakes the thread that reads from it; closing it would not. A duplicate of its descriptor,
    # because psycopg2 still owns the original. Its owner may have closed it meanwhile.
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)


def _has_own_session(connect: Callable[[], Connection], first: Connection, backend: int) -> bool:
    # Two that hold a transaction at once: a pooler that takes its sessions in turn and has two may give the second
    # connection another one although it has shared the first.
    with ExitStack() as opened:
        holders: list[Connection] = []
        for _ in range(HOLDERS):
            try:
                holder = opened.enter_context(closing(connect()))
                with _bounded(holder):
                    held, _ = _ask(holder, f"BEGIN; {holder.question}")
            except psycopg2.OperationalError:  # no further connection, or no session in time
                break
            holders.append(holder)
            if held == backend:
                return False
            with _bounded(first):
                if _ask(first, first.question)[0] != backend:
                    return False
        return bool(holders) and _hears_while_idle(first, holders[0])


def _hears_while_idle(first: Connection, other: Connection) -> bool:
    channel = f"vm_webapp_{uuid4().hex}"
    with first.cursor() as listening, other.cursor() as speaking:
        listening.execute(f"LISTEN {channel}")
        try:
            speaking.execute("COMMIT")
            speaking.execute(f"NOTIFY {channel}")
            select.select([first], [], [], NOTICE_SECONDS)
            first.poll()
            return any(notice.channel == channel for notice in first.notifies)
        finally:
            listening.execute(f"UNLISTEN {channel}")


@contextmanager
def _bounded(connection: Connection) -> Iterator[None]:
    # A pooler without a free session makes a statement wait, and no time-out of PostgreSQL counts that.
    timer = threading.Timer(PROBE_SECONDS, shut_down, [connection])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _ask(connection: Connection, question: str) -> tuple[int, bool]:
    with connection.cursor() as cursor:
        cursor.execute(question)
        ((pid, in_force),) = cursor.fetchall()
        return pid, in_force


def _as_interval(timeout: str) -> str:
    return f"{timeout} ms" if timeout.isdigit() else timeout
