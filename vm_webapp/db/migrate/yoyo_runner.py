"""yoyo on sessions of ours: a migration and its mark commit together, and what blocks nobody may wait.

One connection carries out a migration, beside the one that has the locks: a full server keeps three for operators.
Plain ``yoyo`` works on the same tables and files. It commits a migration before its mark, and has no time-outs.
"""

from __future__ import annotations

import getpass
import glob
import io
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import psycopg2
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlBackend
from yoyo.migrations import default_migration_table

from vm_webapp.db.bundle import MigrationFiles
from vm_webapp.db.migrate.failures import LOCK_TIMEOUT, MigrationFailed, Stopped
from vm_webapp.db.migrate.invalid_indexes import InvalidIndex, read_invalid_indexes
from vm_webapp.db.migrate.session import (
    FIRST_WITH_CONNECTION_CHECK,
    NO_TIMEOUT,
    YOYO_SESSION,
    connect,
    query,
    server_pid,
)
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.text import single_line

Direction = Literal["apply", "rollback"]

# These wait for other transactions to end, and make no reader or writer of rows wait meanwhile. ``lock_timeout`` would
# count that wait.
_BLOCKS_NOBODY = re.compile(
    r"""
    CREATE \s+ (UNIQUE \s+)? INDEX \s+ CONCURRENTLY \b
    | DROP \s+ INDEX \s+ CONCURRENTLY \b
    | REINDEX \s* (\([^)]*\) \s*)? \w+ \s+ CONCURRENTLY \b
    | REINDEX \s* \( [^)]* \b CONCURRENTLY \b (?! \s+ (false|off|0)\b)
    | REFRESH \s+ MATERIALIZED \s+ VIEW \s+ CONCURRENTLY \b
    | ALTER \s+ TABLE \s [^']* \s DETACH \s+ PARTITION \s+ \S+ \s+ CONCURRENTLY \b
    | VACUUM \b (?! [^;]* \b FULL \b)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_LEADING_COMMENTS = re.compile(r"\A(\s+|--[^\n]*(\n|\Z)|/\*.*?\*/)*", re.DOTALL)
_SETTING = re.compile(r"(SET|RESET)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Address:
    """What yoyo takes for its parsed URL; it reads ``database`` for other servers than PostgreSQL."""

    url: str
    lock_timeout: str = LOCK_TIMEOUT
    checks_connection: bool = False
    database: str = ""


class Runner(PostgresqlBackend):  # type: ignore[misc]
    """yoyo's backend, with the lock row held by the caller.

    Args:
        address: the database.
        session: one to work on, by default a new one.

    Attributes:
        pid: the server process that carries out the present migration, None if there is none.
    """

    pid: int | None = None

    def __init__(self, address: _Address, session: Any = None) -> None:
        self._given = session
        super().__init__(address, default_migration_table)

    def connect(self, dburi: _Address) -> Any:
        if self._given is not None:
            return self._given
        # The server then ends the statement of a client that was killed. Otherwise it would carry it out, unmarked, and
        # perhaps beside the next attempt.
        check = {"client_connection_check_interval": "1s"} if dburi.checks_connection else {}
        return connect(dburi.url, name=YOYO_SESSION, lock_timeout=dburi.lock_timeout, **check)

    def run(self, migration: Any, direction: Direction) -> None:
        """Apply a migration or roll it back, and mark it so.

        Raises:
            BadMigration: yoyo cannot read it.
            Stopped: the database refused a statement.
        """
        migration.load()
        self.ensure_internal_schema_updated()
        try:
            with redirect_stdout(io.StringIO()):  # on which yoyo prints the rows of each statement that returns some
                if migration.use_transactions:
                    self._run_in_transaction(migration, direction)
                else:
                    self._run_each_statement(migration, direction)
        finally:
            self.pid = None

    def _run_in_transaction(self, migration: Any, direction: Direction) -> None:
        with self._another() as work:
            committing = False
            try:
                work.execute("BEGIN")
                for step in _ordered(migration, direction):
                    getattr(step, direction)(work)
                work.mark(migration, direction)
                committing = True
                work.execute("COMMIT")
            except psycopg2.Error as error:
                lost = committing and work.connection.closed
                # Before anything else is tried: a session that was only closed keeps its locks for a moment.
                with suppress(psycopg2.Error):
                    work.execute("ROLLBACK")
                raise Stopped(error, "whether it was done, migrate status says" if lost else "") from error

    def _run_each_statement(self, migration: Any, direction: Direction) -> None:
        steps = _ordered(migration, direction)
        sql = "\n".join(text for step in steps if (text := _text(step, direction)))
        self._drop_invalid_indexes(sql)
        done: list[Any] = []
        try:
            with self._another() as work:
                for step in steps:
                    work.run_statement(step, direction)
                    done.append(step)
        except (psycopg2.Error, DatabaseUnavailable) as error:
            raise Stopped(_of_driver(error), self._what_is_left(done, direction, sql)) from error
        try:
            with self._another() as work:  # with nothing that the migration has set
                work.mark(migration, direction)
        except (psycopg2.Error, DatabaseUnavailable) as error:
            verb = "mark" if direction == "apply" else "unmark"
            left = f"all of its statements were done, and only this was not: yoyo {verb} --revision {migration.id}"
            raise Stopped(_of_driver(error), left) from error

    def mark(self, migration: Any, direction: Direction) -> None:
        """Record in yoyo's tables that a migration was applied or rolled back."""
        self._internal_schema_updated = True  # the caller has seen to it, perhaps outside this transaction
        self.log_migration(migration, direction)
        if direction == "apply":
            self.mark_one(migration, log=False)
        else:
            self.unmark_one(migration, log=False)

    def run_statement(self, step: Any, direction: Direction) -> None:
        """Execute one statement; if it blocks nobody, it may wait for others as long as it has to."""
        if not blocks_nobody(_text(step, direction) or "") or self._lock_timeout() != LOCK_TIMEOUT:
            getattr(step, direction)(self)  # a time-out that the migration has set counts for all of it
            return
        self.execute(f"SET lock_timeout = {NO_TIMEOUT}")
        getattr(step, direction)(self)
        self.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")

    def _lock_timeout(self) -> str:
        return str(self.execute("SHOW lock_timeout").fetchone()[0])

    def _what_is_left(self, done: list[Any], direction: Direction, sql: str) -> str:
        """Undo what can be undone, as yoyo does; return what stays."""
        back: Direction = "rollback" if direction == "apply" else "apply"
        stays = []
        for step in reversed(done):
            try:
                if _text(step, back) is None:
                    stays.append(step)
                else:
                    with self._another() as work:
                        work.run_statement(step, back)
            except (psycopg2.Error, DatabaseUnavailable):
                stays.append(step)
        texts = [_plain(_text(step, direction) or "") for step in reversed(stays)]
        # A setting ended with its session.
        kept = [f'"{single_line(text)[:80]}" was done and stays' for text in texts if not _SETTING.match(text)]
        with suppress(psycopg2.Error, DatabaseUnavailable):
            kept += [
                f"it left the invalid index {index.full_name}, which migrate up drops first, or you: {index.drop}"
                for index in self._invalid_indexes(sql)
            ]
        return "; ".join(kept)

    def _drop_invalid_indexes(self, sql: str) -> None:
        for index in self._invalid_indexes(sql):
            try:
                with self._another(lock_timeout=NO_TIMEOUT) as work:
                    work.execute(index.drop)
            except psycopg2.Error as error:
                raise Stopped(error, f"an earlier attempt left an invalid index: {index.drop}") from error

    def _invalid_indexes(self, sql: str) -> list[InvalidIndex]:
        return [index for index in read_invalid_indexes(partial(query, self.connection)) if index.is_left_by(sql)]

    @contextmanager
    def _another(self, lock_timeout: str = LOCK_TIMEOUT) -> Iterator[Any]:
        address = _Address(self.uri.url, lock_timeout, self.uri.checks_connection)
        work = Runner(address)
        with closing(work.connection):
            self.pid = server_pid(work.connection)
            yield work


def yoyo_runner(url: str, session: Any) -> Runner:
    """Return yoyo's backend; it opens further connections one at a time.

    Args:
        url: the database.
        session: the session that has the advisory lock and yoyo's lock row.
    """
    name_the_user()
    checks = session.info.server_version >= FIRST_WITH_CONNECTION_CHECK
    runner = Runner(_Address(url, checks_connection=checks), session)
    runner._is_locked = True
    return runner


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


def blocks_nobody(statement: str) -> bool:
    """Return whether a statement waits without making readers or writers wait, so that it needs no lock time-out."""
    return _BLOCKS_NOBODY.match(_plain(statement)) is not None


def name_the_user() -> None:
    """Make sure that yoyo finds a user's name to record."""
    # ``getpass`` finds none for a uid without a passwd entry, as in containers.
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "vm-webapp"


def _plain(statement: str) -> str:
    return _LEADING_COMMENTS.sub("", statement, count=1)


def _of_driver(error: psycopg2.Error | DatabaseUnavailable) -> psycopg2.Error:
    # A connection that was refused: the driver's error is its cause.
    return error if isinstance(error, psycopg2.Error) else cast(psycopg2.Error, error.__cause__)


def _ordered(migration: Any, direction: Direction) -> list[Any]:
    # yoyo wraps each step in something that adds savepoints or nothing.
    steps = [wrapper.step for wrapper in migration.steps]
    return steps if direction == "apply" else steps[::-1]


def _text(step: Any, direction: Direction) -> str | None:
    text: str | None = step._apply if direction == "apply" else step._rollback
    return text
