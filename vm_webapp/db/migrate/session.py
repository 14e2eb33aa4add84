"""The connections of a migration: a direct session that holds our advisory lock, and yoyo's own, with time-outs."""

from __future__ import annotations

import getpass
import glob
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2
from psycopg2 import errors
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlBackend
from yoyo.exceptions import BadMigration, LockTimeout
from yoyo.migrations import default_migration_table
from yoyo.topologicalsort import CycleError

from vm_webapp.db.bundle import MigrationFiles
from vm_webapp.db.pool import Row, Statement
from vm_webapp.db.poolers import open_session, says_full
from vm_webapp.db.session_settings import SessionSettings
from vm_webapp.errors import (
    Conflict,
    DatabaseFull,
    DatabaseUnavailable,
    VMError,
)
from vm_webapp.text import first_line

ADVISORY_LOCK = 0x766D_6D69_6772  # "vmmigr": any number that nothing else in this database uses
# While DDL waits for a lock, every later statement on that table queues behind it, so the wait must be short.
LOCK_TIMEOUT = "1s"
STATEMENT_TIMEOUT = "15min"
FULL_ATTEMPTS, FULL_WAIT_SECONDS = 6, 0.5
# yoyo quotes the names of its tables, which people and this program do not: so the quote identifies yoyo's statements.
LIVE_YOYO = """
SELECT pid FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ~ '"_?yoyo_' ORDER BY backend_start
"""


class MigrationFailed(VMError):
    """The database or yoyo refused a migration; the database is as it was before that migration."""

    code = "migration_failed"


def unlock(url: str) -> bool:
    """Remove the lock row that a killed yoyo left behind; return whether there was one.

    Raises:
        Conflict: a migration is running, or plain ``yoyo`` is connected.
    """
    with advisory_lock(url) as session, named_failure("removing the lock"):
        if lock_holder(session) is None:
            return False
        if live := query(session, LIVE_YOYO):
            raise Conflict(
                "plain yoyo is connected and may hold the lock: wait until it is done, or end it with"
                f" SELECT pg_terminate_backend({live[0]['pid']})"
            )
        with session.cursor() as cursor:
            cursor.execute("DELETE FROM yoyo_lock")
            return bool(cursor.rowcount)


def lock_holder(session: Any) -> int | None:
    """Return the process id in yoyo's lock row, None if there is no row."""
    found = query(session, "SELECT pid FROM yoyo_lock") if _has_lock_table(session) else []
    return int(found[0]["pid"]) if found else None


def query(session: Any, statement: Statement, **values: Any) -> list[Row]:
    """Run a statement on a direct session and return its rows as dictionaries."""
    with session.cursor() as cursor:
        if isinstance(statement, str):
            cursor.execute(statement, values)
        else:
            cursor.execute(statement.text, statement.values(values))
        names = [column.name for column in cursor.description]
        return [dict(zip(names, found, strict=True)) for found in cursor.fetchall()]


@contextmanager
def advisory_lock(url: str) -> Iterator[Any]:
    """Yield a direct session that holds the migration lock; the lock ends with the session.

    Raises:
        Conflict: another process holds the lock.
        DatabaseUnavailable: the database cannot be reached.
    """
    with direct_session(url) as session:
        if not query(session, "SELECT pg_try_advisory_lock(%(lock)s) AS got", lock=ADVISORY_LOCK)[0]["got"]:
            raise Conflict("another process is migrating this database; try again when it is done")
        try:
            yield session
        finally:
            # Explicitly, because PostgreSQL notices a closed session only a moment later, and the next command would be
            # refused until then. A session that broke has lost its lock already.
            with suppress(psycopg2.Error):
                query(session, "SELECT pg_advisory_unlock(%(lock)s)", lock=ADVISORY_LOCK)


@contextmanager
def direct_session(url: str) -> Iterator[Any]:
    """Yield a connection without a pool, in autocommit mode, with time-outs.

    Raises:
        ConfigurationError: the URL makes no sense, or is that of a pooler in transaction mode.
        DatabaseUnavailable: the database cannot be reached, or the connection broke.
        MigrationFailed: the database refused a statement.
    """
    with closing(_connect(url)) as session, named_failure("reading the schema"):
        yield session


@contextmanager
def locked_yoyo(url: str, *, break_leftover_lock: bool) -> Iterator[Any]:
    """Yield yoyo's backend with its lock row taken.

    Args:
        url: the database.
        break_leftover_lock: remove an existing lock row: right only if nobody else can be running plain ``yoyo``.

    Raises:
        Conflict: the lock row is held, or was left behind by a killed process.
        psycopg2.Error: the lock row cannot be written.
    """
    name_the_user()
    backend: Any = _Backend(_Address(url), default_migration_table)
    try:
        backend.init_database()
        _refuse_unwritable(backend)
        if break_leftover_lock:
            backend.break_lock()
        with backend.lock(timeout=1):
            yield backend
    except LockTimeout as error:
        holder = str(error).split(" (", 1)[0]
        raise Conflict(f"{holder}: if no migration is running, python -m vm_webapp migrate unlock") from error
    finally:
        backend.connection.close()


@contextmanager
def written_out(migrations: Iterable[MigrationFiles]) -> Iterator[Any]:
    """Yield yoyo's list of these migrations, read from a folder that exists during the block."""
    # yoyo reads migrations from files only, and takes the path for a glob pattern.
    with TemporaryDirectory(prefix="vm-migrations-") as folder:
        for migration in migrations:
            migration.write_to(Path(folder))
        yield read_migrations(glob.escape(folder))


def refuse_other_hashes(found: Iterable[Any], expected: Collection[str]) -> None:
    """Raise MigrationFailed unless yoyo has selected exactly these ids."""
    # yoyo compares hashes of ids. A row of _yoyo_migration with another hash, edited by hand, would make it skip or
    # repeat a migration silently.
    if wrong := ", ".join(sorted({migration.id for migration in found} ^ set(expected))):
        raise MigrationFailed(
            f"{wrong} stands in _yoyo_migration with a hash that is not its id's, so that yoyo does not find it:"
            " set migration_hash to encode(sha256(migration_id::bytea), 'hex')"
        )


@contextmanager
def named_failure(what: str) -> Iterator[None]:
    """Turn an exception of the block into one of this program's, with one line of text that begins with ``what``."""
    try:
        yield
    except BadMigration as error:
        raise MigrationFailed(f"{what} failed: {error}") from error
    except CycleError as error:
        cycle = ", ".join(migration.id for migration in error.args[1])
        raise MigrationFailed(f"{what} failed: {cycle} depend on each other") from error
    except errors.LockNotAvailable as error:
        raise Conflict(
            f"{what} failed: a table was in use for longer than {LOCK_TIMEOUT}; nothing of it was done, try again"
        ) from error
    except errors.QueryCanceled as error:
        raise MigrationFailed(f"{what} failed: {first_line(error)}") from error
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise DatabaseUnavailable(f"{what} failed: {first_line(error)}") from error
    except psycopg2.Error as error:
        raise MigrationFailed(f"{what} failed: {first_line(error)}") from error


@dataclass(frozen=True)
class _Address:
    """What yoyo takes for its parsed URL; it reads the attribute ``database`` for other servers than PostgreSQL."""

    url: str
    database: str = ""


class _Backend(PostgresqlBackend):  # type: ignore[misc]
    """yoyo's backend on a connection of ours, which takes every address that libpq takes."""

    def connect(self, dburi: _Address) -> Any:
        return _connect(dburi.url)


def _connect(url: str) -> Any:
    settings = SessionSettings({"lock_timeout": LOCK_TIMEOUT, "statement_timeout": STATEMENT_TIMEOUT})
    attempts = FULL_ATTEMPTS
    while True:
        try:
            return open_session(url, settings, connect_timeout=5, application_name="vm-webapp migrate")
        except psycopg2.OperationalError as error:
            attempts -= 1
            if not says_full(error):
                raise DatabaseUnavailable(first_line(error)) from error
            if not attempts:
                raise DatabaseFull(first_line(error)) from error
        time.sleep(FULL_WAIT_SECONDS)  # services leave the last connections to operators, but may take one for a moment


def _has_lock_table(session: Any) -> bool:
    return bool(query(session, "SELECT to_regclass('yoyo_lock') IS NOT NULL AS found")[0]["found"])


def _refuse_unwritable(backend: Any) -> None:
    # yoyo reports any error while it writes the lock row as a lock that another process holds, a missing privilege too.
    # The same statements run here first, so that the real error appears. The INSERT adds no row.
    if not _has_lock_table(backend.connection):
        backend.execute(backend.format_sql(backend.create_lock_table_sql))
    backend.execute("INSERT INTO yoyo_lock SELECT * FROM yoyo_lock WHERE false")


def name_the_user() -> None:
    # yoyo records the user's name, and ``getpass`` finds none for a uid without a passwd entry, as in containers.
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "vm-webapp"
