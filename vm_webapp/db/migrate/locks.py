"""The two locks of a migration: our advisory lock, which ends with its session, and yoyo's row, which may outlive it.

Our commands take both; plain ``yoyo`` takes only the row. A row is removed only if nobody can be at work for its owner.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import errors

from vm_webapp.db.bundle import Bundle, own_bundle
from vm_webapp.db.migrate.archive import read_archive
from vm_webapp.db.migrate.failures import named_failure
from vm_webapp.db.migrate.other_sessions import at_work, owner_of_advisory_lock
from vm_webapp.db.migrate.session import ADVISORY_LOCK, direct_session, execute, query
from vm_webapp.db.pool import Row
from vm_webapp.errors import Conflict

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
# Between two statements a living yoyo shows nothing of itself for a moment.
QUIET_SECONDS = 2.0
# As yoyo creates it.
_CREATE_LOCK_TABLE = (
    'CREATE TABLE yoyo_lock ("locked" INT DEFAULT 1, "ctime" TIMESTAMP, "pid" INT NOT NULL, PRIMARY KEY ("locked"))'
)
_TAKE = """
INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, clock_timestamp() AT TIME ZONE 'UTC', %(pid)s)
ON CONFLICT DO NOTHING RETURNING pid, ctime
"""
_REMOVE = "DELETE FROM yoyo_lock WHERE pid = %(pid)s AND ctime IS NOT DISTINCT FROM %(ctime)s"


def log_notice(line: str) -> None:
    """Log what somebody who waits for a migration should know."""
    log.warning("migrate.notice", extra={"notice": line})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for other processes that migrate, and whom to tell.

    Attributes:
        seconds: from now; 0 does not wait.
        say: called with a line for the operator.
    """

    seconds: float = 0.0
    say: Callable[[str], None] = log_notice


@contextmanager
def advisory_lock(url: str, patience: Patience | None = None) -> Iterator[Any]:
    """Yield a direct session that holds the migration lock; the lock ends with the session.

    Raises:
        Conflict: another process holds the lock, and does after the wait.
        DatabaseUnavailable: the database cannot be reached.
    """
    with direct_session(url) as session:
        _take_advisory_lock(session, patience or Patience())
        try:
            yield session
        finally:
            # Explicitly, because PostgreSQL notices a closed session only a moment later, and the next command would be
            # refused until then. A session that broke has lost its lock already.
            with suppress(psycopg2.Error):
                query(session, "SELECT pg_advisory_unlock(%(lock)s)", lock=ADVISORY_LOCK)


@contextmanager
def lock_row(session: Any, bundle: Bundle, patience: Patience | None = None) -> Iterator[None]:
    """Hold yoyo's lock row for the block; remove one that was left behind, and say so.

    Args:
        session: the session that has the advisory lock.
        bundle: the build's migrations.
        patience: how long to wait for plain ``yoyo``.

    Raises:
        Conflict: plain ``yoyo`` holds the row, or somebody is still at work for its owner.
        psycopg2.Error: the row cannot be written.
    """
    if not _has_lock_table(session):
        # Plain yoyo may create it at the same time.
        with suppress(errors.DuplicateTable, errors.UniqueViolation):
            execute(session, _CREATE_LOCK_TABLE)
    mine = _take_row(session, bundle, patience or Patience())
    try:
        yield
    finally:
        # The next command removes a row that stays because the session is lost.
        with suppress(psycopg2.Error):
            execute(session, _REMOVE, **mine)


def unlock(url: str) -> bool:
    """Remove the lock row that a killed yoyo left behind; return whether there was one.

    Raises:
        Conflict: a migration is running, plain ``yoyo`` is connected, or a session may still be at work for its owner.
    """
    with advisory_lock(url) as session, named_failure("removing the lock"):
        row = _read_row(session)
        if row is None:
            return False
        if working := _worker_for(session, row, known_sql(session, own_bundle())):
            raise Conflict(_refusal(row, working))
        return bool(execute(session, _REMOVE, **row))


def lock_holder(session: Any) -> int | None:
    """Return the process id in yoyo's lock row, None if there is no row."""
    row = _read_row(session)
    return int(row["pid"]) if row else None


def known_sql(session: Any, bundle: Bundle) -> str:
    """Return the SQL of all migrations that the build or the archive has."""
    every = (*bundle.migrations.values(), *read_archive(session).values())
    return "\n".join(text for files in every for text in (files.up, files.down))


def _take_advisory_lock(session: Any, patience: Patience) -> None:
    until = time.monotonic() + patience.seconds
    said = False
    # Asked again and again: a statement that waits for the lock has a snapshot, for whose end CREATE INDEX CONCURRENTLY
    # waits, and so both would wait for ever.
    while not query(session, "SELECT pg_try_advisory_lock(%(lock)s) AS got", lock=ADVISORY_LOCK)[0]["got"]:
        owner = owner_of_advisory_lock(session)
        who = f" ({owner})" if owner else ""
        if time.monotonic() >= until:
            raise Conflict(f"another process is migrating this database; try again when it is done{who}")
        if not said:
            patience.say(f"another process is migrating this database: waiting until it is done{who}")
        said = True
        time.sleep(POLL_SECONDS)


def _take_row(session: Any, bundle: Bundle, patience: Patience) -> Row:
    until = time.monotonic() + patience.seconds
    said = False
    while True:
        if taken := query(session, _TAKE, pid=os.getpid()):
            return taken[0]
        row = _read_row(session)
        if row is None:
            continue
        working = _worker_for(session, row, known_sql(session, bundle))
        if not working:
            if execute(session, _REMOVE, **row):
                patience.say(f"removed the lock that process {row['pid']} left behind: it has no session any more")
            continue
        if time.monotonic() >= until:
            raise Conflict(_refusal(row, working))
        if not said:
            patience.say(f"waiting for process {row['pid']}, which has yoyo's lock: {working}")
        said = True
        time.sleep(POLL_SECONDS)


def _worker_for(session: Any, row: Row, known: str) -> str:
    """Return a session that may be at work for the owner of the row; empty if there has been none for a while."""
    until = time.monotonic() + QUIET_SECONDS
    while _read_row(session) == row:
        if (working := at_work(session, known, settled_seconds=QUIET_SECONDS / 2)) or time.monotonic() >= until:
            return working
        time.sleep(POLL_SECONDS)
    return ""


def _refusal(row: Row, working: str) -> str:
    return f"process {row['pid']} has yoyo's lock, and this may be at work for it; wait until it is done: {working}"


def _read_row(session: Any) -> Row | None:
    found = query(session, "SELECT pid, ctime FROM yoyo_lock") if _has_lock_table(session) else []
    return found[0] if found else None


def _has_lock_table(session: Any) -> bool:
    return bool(query(session, "SELECT to_regclass('yoyo_lock') IS NOT NULL AS found")[0]["found"])
