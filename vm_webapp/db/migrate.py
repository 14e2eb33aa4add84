"""The schema: which migrations this build carries, which the database has, and applying what is missing.

yoyo does the work. Around it stands an advisory lock on a direct session, because yoyo's own lock is a row that
outlives a killed process.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import psycopg2
from yoyo import get_backend, read_migrations
from yoyo.exceptions import LockTimeout

from vm_webapp.db.bundle import MIGRATIONS, bundled_ids
from vm_webapp.errors import ConfigurationError, Conflict, DatabaseUnavailable, VMError

ADVISORY_LOCK = 0x766D_6D69_6772  # "vmmigr": any number that nothing else in this database uses
LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "15min"


class MigrationFailed(VMError):
    """A migration's SQL was refused; the database is as it was before that migration."""

    code = "migration_failed"


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The database's migrations beside this build's, in the order in which they apply.

    Attributes:
        applied: ids that both have.
        pending: ids that only this build has.
        unknown: ids that only the database has, applied by a newer build.
    """

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    unknown: tuple[str, ...]


def read_status(url: str) -> SchemaStatus:
    """Compare a database with this build, changing nothing.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
    """
    with closing(_direct_session(url)) as session:
        return _compare(_applied_ids(session))


def apply_pending(url: str, *, break_leftover_lock: bool = False) -> tuple[str, ...]:
    """Apply what this build has and the database lacks; with nothing pending, change nothing.

    Args:
        url: the database.
        break_leftover_lock: remove a lock row that a killed yoyo left. Right only where nobody else can be running
            plain ``yoyo``: on a database that this program embeds.

    Returns:
        The ids applied, in order.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        Conflict: another process is migrating, or yoyo's lock row is held.
        MigrationFailed: a migration's SQL was refused.
    """
    with _advisory_lock(url) as session:
        pending = _compare(_applied_ids(session)).pending
        if pending:
            with _yoyo_backend(url) as backend:
                if break_leftover_lock:
                    backend.break_lock()
                _apply(backend, pending)
        return pending


def unlock(url: str) -> bool:
    """Remove the lock row that a killed yoyo left behind; return whether there was one.

    Raises:
        Conflict: a migration is running in this moment.
    """
    with _advisory_lock(url) as session, session.cursor() as cursor:
        cursor.execute("SELECT to_regclass('yoyo_lock') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return False
        cursor.execute("DELETE FROM yoyo_lock")
        return bool(cursor.rowcount)


def _compare(applied: tuple[str, ...]) -> SchemaStatus:
    bundled = bundled_ids()
    return SchemaStatus(
        applied=tuple(id for id in bundled if id in applied),
        pending=tuple(id for id in bundled if id not in applied),
        unknown=tuple(id for id in applied if id not in bundled),
    )


def _apply(backend: Any, pending: tuple[str, ...]) -> None:
    migrations = read_migrations(str(MIGRATIONS)).filter(lambda migration: migration.id in pending)
    try:
        with backend.lock(timeout=1):
            backend.apply_migrations(backend.to_apply(migrations))
    except LockTimeout as error:
        raise Conflict(f"{error}; if no migration is running: python -m vm_webapp migrate unlock") from error
    except psycopg2.OperationalError as error:
        raise DatabaseUnavailable(_one_line(error)) from error
    except psycopg2.Error as error:
        raise MigrationFailed(f"{pending[0]} or a later migration failed: {_one_line(error)}") from error


def _applied_ids(session: Any) -> tuple[str, ...]:
    with session.cursor() as cursor:
        cursor.execute("SELECT to_regclass('_yoyo_migration') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return ()
        cursor.execute("SELECT migration_id FROM _yoyo_migration ORDER BY applied_at_utc, migration_id")
        return tuple(found[0] for found in cursor.fetchall())


@contextmanager
def _advisory_lock(url: str) -> Iterator[Any]:
    with closing(_direct_session(url)) as session:
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (ADVISORY_LOCK,))
            if not cursor.fetchone()[0]:
                raise Conflict("another process is migrating this database; try again when it is done")
        yield session


def _direct_session(url: str) -> Any:
    try:
        session = psycopg2.connect(url, connect_timeout=5, application_name="vm-webapp migrate")
    except psycopg2.OperationalError as error:
        raise DatabaseUnavailable(_one_line(error)) from error
    except psycopg2.ProgrammingError:
        # Its text quotes the URL, password and all.
        raise ConfigurationError("VM_DB_URL is not a PostgreSQL URL that libpq understands") from None
    session.autocommit = True
    return session


@contextmanager
def _yoyo_backend(url: str) -> Iterator[Any]:
    _name_the_user()
    backend = cast(Any, get_backend(_with_timeouts(url)))
    try:
        yield backend
    finally:
        backend.connection.close()


def _with_timeouts(url: str) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    timeouts = f"-c lock_timeout={LOCK_TIMEOUT} -c statement_timeout={STATEMENT_TIMEOUT}"
    query["options"] = f"{query['options']} {timeouts}" if "options" in query else timeouts
    return parts._replace(query=urlencode(query)).geturl()


def _name_the_user() -> None:
    # yoyo logs who migrated, and the standard library has no name for a uid without a passwd entry (containers).
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "vm-webapp"


def _one_line(error: psycopg2.Error) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
