"""The connections of a migration: a direct session that holds our lock, and yoyo's own with time-outs."""

from __future__ import annotations

import getpass
import glob
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import psycopg2
from psycopg2 import errors
from yoyo import get_backend, read_migrations
from yoyo.exceptions import BadMigration, LockTimeout
from yoyo.topologicalsort import CycleError

from vm_webapp.db.bundle import MigrationFiles
from vm_webapp.db.pool import Row, Statement
from vm_webapp.errors import (
    ConfigurationError,
    Conflict,
    DatabaseUnavailable,
    VMError,
)
from vm_webapp.text import first_line

ADVISORY_LOCK = 0x766D_6D69_6772  # "vmmigr": any number that nothing else in this database uses
# Everybody else queues behind a lock that DDL waits for, so the wait is as bounded as the holding.
LOCK_TIMEOUT = "1s"
STATEMENT_TIMEOUT = "15min"
# yoyo quotes the names of its tables, people and this program do not.
LIVE_YOYO = """
SELECT pid FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ~ '"_?yoyo_' ORDER BY backend_start
"""


class MigrationFailed(VMError):
    """A migration was refused by the database or by yoyo; the database is as it was before that migration."""

    code = "migration_failed"


def unlock(url: str) -> bool:
    """Remove the lock row that a killed yoyo left behind; return whether there was one.

    Raises:
        Conflict: a migration is running in this moment, or plain ``yoyo`` is connected.
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
    """Return the process id in yoyo's lock row, None when nobody has locked."""
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
    """Yield a direct session that holds the lock of whoever migrates; it dies with the session.

    Raises:
        Conflict: somebody else holds it.
        DatabaseUnavailable: the database cannot be reached.
    """
    with direct_session(url) as session:
        if not query(session, "SELECT pg_try_advisory_lock(%(lock)s) AS got", lock=ADVISORY_LOCK)[0]["got"]:
            raise Conflict("another process is migrating this database; try again when it is done")
        try:
            yield session
        finally:
            # A server ends a closed session a moment later; a session that broke has lost its lock.
            with suppress(psycopg2.Error):
                query(session, "SELECT pg_advisory_unlock(%(lock)s)", lock=ADVISORY_LOCK)


@contextmanager
def direct_session(url: str) -> Iterator[Any]:
    """Yield a connection without a pool, in autocommit mode, with time-outs.

    Raises:
        ConfigurationError: the URL makes no sense.
        DatabaseUnavailable: the database cannot be reached, or the connection broke.
        MigrationFailed: the database refused to tell.
    """
    with closing(_connect(url)) as session, named_failure("looking at the schema"):
        with session.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'; SET statement_timeout = '{STATEMENT_TIMEOUT}'")
        yield session


@contextmanager
def locked_yoyo(url: str, *, break_leftover_lock: bool) -> Iterator[Any]:
    """Yield yoyo's backend with its lock row taken.

    Args:
        url: the database.
        break_leftover_lock: remove a lock row that is there: right only where nobody else runs plain ``yoyo``.

    Raises:
        Conflict: the lock row is held, or was left behind.
        psycopg2.Error: the lock row cannot be written.
    """
    name_the_user()
    backend = cast(Any, get_backend(_with_timeouts(url)))
    try:
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
def laid_out(migrations: Iterable[MigrationFiles]) -> Iterator[Any]:
    """Yield yoyo's list of these migrations, read from a folder that lives as long as the block."""
    with TemporaryDirectory(prefix="vm-migrations-") as folder:
        for migration in migrations:
            migration.write_to(Path(folder))
        yield read_migrations(glob.escape(folder))


def refuse_other_hashes(found: Iterable[Any], expected: Collection[str]) -> None:
    """Raise MigrationFailed unless yoyo has found exactly these ids to do: it goes by a hash of the id."""
    if wrong := ", ".join(sorted({migration.id for migration in found} ^ set(expected))):
        raise MigrationFailed(
            f"{wrong} stands in _yoyo_migration with a hash that is not its id's, so that yoyo does not find it:"
            " set migration_hash to encode(sha256(migration_id::bytea), 'hex')"
        )


@contextmanager
def named_failure(what: str) -> Iterator[None]:
    """Raise what goes wrong in the block as an error of one line that begins with ``what``."""
    try:
        yield
    except BadMigration as error:
        raise MigrationFailed(f"{what} failed: {error}") from error
    except CycleError as error:
        circle = ", ".join(migration.id for migration in error.args[1])
        raise MigrationFailed(f"{what} failed: {circle} depend on each other") from error
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


def _connect(url: str) -> Any:
    try:
        session = psycopg2.connect(url, connect_timeout=5, application_name="vm-webapp migrate")
    except psycopg2.OperationalError as error:
        raise DatabaseUnavailable(first_line(error)) from error
    except psycopg2.ProgrammingError:
        # Its text quotes the URL, password and all.
        raise ConfigurationError("VM_DB_URL is not a PostgreSQL URL that libpq understands") from None
    session.autocommit = True
    return session


def _has_lock_table(session: Any) -> bool:
    return bool(query(session, "SELECT to_regclass('yoyo_lock') IS NOT NULL AS found")[0]["found"])


def _refuse_unwritable(backend: Any) -> None:
    # yoyo takes any error of these for a lock that somebody holds.
    if not _has_lock_table(backend.connection):
        backend.execute(backend.format_sql(backend.create_lock_table_sql))
    backend.execute("INSERT INTO yoyo_lock SELECT * FROM yoyo_lock WHERE false")


def _with_timeouts(url: str) -> str:
    parts = urlsplit(url)
    params = dict(parse_qsl(parts.query))
    timeouts = f"-c lock_timeout={LOCK_TIMEOUT} -c statement_timeout={STATEMENT_TIMEOUT}"
    params["options"] = f"{params['options']} {timeouts}" if "options" in params else timeouts
    return parts._replace(query=urlencode(params)).geturl()


def name_the_user() -> None:
    # yoyo logs who migrated, and the standard library has no name for a uid without a passwd entry (containers).
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "vm-webapp"
