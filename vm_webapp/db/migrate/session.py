"""The connections of a migration: without a pool, in autocommit mode, with time-outs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2

from vm_webapp.db.migrate.failures import LOCK_TIMEOUT, named_failure
from vm_webapp.db.pool import Row, Statement
from vm_webapp.db.poolers import open_session, says_full
from vm_webapp.db.session_settings import SessionSettings
from vm_webapp.errors import DatabaseFull, DatabaseUnavailable
from vm_webapp.text import first_line

ADVISORY_LOCK = 0x766D_6D69_6772  # "vmmigr": any number that nothing else in this database uses
STATEMENT_TIMEOUT = "15min"
NO_TIMEOUT = "0"
FULL_ATTEMPTS, FULL_WAIT_SECONDS = 6, 0.5
OWN_SESSIONS = "vm-webapp "
DIRECT_SESSION = "vm-webapp migrate"
YOYO_SESSION = "vm-webapp migration"  # one that carries out migrations, and ends with the process that began them
FIRST_WITH_CONNECTION_CHECK = 140_000


def query(session: Any, statement: Statement, **values: Any) -> list[Row]:
    """Run a statement on a direct session and return its rows as dictionaries."""
    with session.cursor() as cursor:
        if isinstance(statement, str):
            cursor.execute(statement, values)
        else:
            cursor.execute(statement.text, statement.values(values))
        names = [column.name for column in cursor.description]
        return [dict(zip(names, found, strict=True)) for found in cursor.fetchall()]


def execute(session: Any, statement: str, **values: Any) -> int:
    """Run a statement on a direct session and return how many rows it affected."""
    with session.cursor() as cursor:
        cursor.execute(statement, values or None)
        return int(cursor.rowcount)


@contextmanager
def direct_session(url: str) -> Iterator[Any]:
    """Yield a connection without a pool, in autocommit mode, with time-outs.

    Raises:
        ConfigurationError: the URL makes no sense, or is that of a pooler in transaction mode.
        DatabaseUnavailable: the database cannot be reached, or the connection broke.
        MigrationFailed: the database refused a statement.
    """
    with closing(connect(url)) as session, named_failure("reading the schema"):
        yield session


def connect(url: str, *, name: str = DIRECT_SESSION, lock_timeout: str = LOCK_TIMEOUT, **settings: str) -> Any:
    """Open a connection in autocommit mode.

    Args:
        url: the database.
        name: the session's name in ``pg_stat_activity``.
        lock_timeout: how long a statement may wait for a lock.
        settings: further settings of the session.

    Raises:
        ConfigurationError: the URL makes no sense, or is that of a pooler in transaction mode.
        DatabaseUnavailable: the database cannot be reached.
    """
    limits = {"lock_timeout": lock_timeout, "statement_timeout": STATEMENT_TIMEOUT, **settings}
    attempts = FULL_ATTEMPTS
    while True:
        try:
            return open_session(url, SessionSettings(limits), connect_timeout=5, application_name=name)
        except psycopg2.OperationalError as error:
            attempts -= 1
            if not says_full(error):
                raise DatabaseUnavailable(first_line(error)) from error
            if not attempts:
                raise DatabaseFull(first_line(error)) from error
        time.sleep(FULL_WAIT_SECONDS)  # services leave the last connections to operators, but may take one for a moment


def server_pid(session: Any) -> int:
    """Return the process id of a session as PostgreSQL knows it; what libpq knows, a proxy may have made up."""
    return int(query(session, "SELECT pg_backend_pid() AS pid")[0]["pid"])
