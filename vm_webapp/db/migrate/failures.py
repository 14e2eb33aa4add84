"""What a migration's failure is called, and what to do about it, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2 import errors

from vm_webapp.errors import Conflict, DatabaseUnavailable, VMError
from vm_webapp.text import first_line

# While DDL waits for a lock, every later statement on that table queues behind it, so the wait must be short.
LOCK_TIMEOUT = "1s"
NOTHING = "nothing of it was done"
# What another session does or has done, so that the same attempt may succeed a moment later.
TEMPORARY = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
_EXISTS = (errors.DuplicateTable, errors.DuplicateColumn, errors.DuplicateObject, errors.DuplicateFunction)


class MigrationFailed(VMError):
    """The database or yoyo refused a migration; its text says so if a part of that migration was done."""

    code = "migration_failed"


class Stopped(Exception):
    """A migration stopped at one of its statements, whose error is the cause.

    Args:
        error: what the database said.
        left: what the migration has done all the same; empty if that is nothing.
    """

    def __init__(self, error: psycopg2.Error, left: str = "") -> None:
        super().__init__(str(error))
        self.error = error
        self.left = left


@contextmanager
def named_failure(what: str) -> Iterator[None]:
    """Turn an exception of the block into one of this program's, with one line of text that begins with ``what``."""
    try:
        yield
    except psycopg2.Error as error:
        raise failure(what, error) from error
    except Exception as error:
        if said := _said_by_yoyo(error):
            raise MigrationFailed(f"{what} failed: {said}") from error
        raise


def failure(what: str, error: psycopg2.Error, *, left: str = "", in_the_way: str = "") -> VMError:
    """Return the exception to raise for an error of the database.

    Args:
        what: what failed.
        error: what the database said.
        left: what was done all the same, empty if nothing was or if that needs no word.
        in_the_way: the session that it waited for and how to end it, empty if none is known.
    """
    done = f"; {left}" if left else ""
    if isinstance(error, TEMPORARY):
        todo = f"in the way: {in_the_way}" if in_the_way else "try again"
        return Conflict(f"{what} failed: {_why_temporary(error)}{done}; {todo}")
    if isinstance(error, errors.DiskFull):
        space = "free space or take a larger one, then try again"
        return MigrationFailed(f"{what} failed: the database's disk is full ({first_line(error)}){done}: {space}")
    if isinstance(error, _EXISTS):
        hint = "if a killed process has carried it out, yoyo mark --revision ID records that (docs/migrations.md)"
        return MigrationFailed(f"{what} failed: {first_line(error)}{done}; {hint}")
    if isinstance(error, errors.QueryCanceled) and in_the_way:
        return MigrationFailed(f"{what} failed: {first_line(error)}{done}; in the way: {in_the_way}")
    unavailable = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    refused = isinstance(error, errors.QueryCanceled | errors.OutOfMemory | errors.ConfigurationLimitExceeded)
    kind = DatabaseUnavailable if unavailable and not refused else MigrationFailed
    return kind(f"{what} failed: {first_line(error)}{done}")


def _said_by_yoyo(error: Exception) -> str:
    # Imported here, as in ``up`` and ``down``: every process reads the schema, few change it.
    from yoyo.exceptions import BadMigration
    from yoyo.topologicalsort import CycleError

    if isinstance(error, CycleError):
        return f"{', '.join(migration.id for migration in error.args[1])} depend on each other"
    return str(error) if isinstance(error, BadMigration) else ""


def _why_temporary(error: psycopg2.Error) -> str:
    if isinstance(error, errors.LockNotAvailable):
        return f"a table was in use for longer than {LOCK_TIMEOUT}"
    if isinstance(error, errors.DeadlockDetected):
        return "it was in a deadlock with another session"
    return first_line(error)
