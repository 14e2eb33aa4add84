"""Connections to PostgreSQL: one small pool per process, and a dedicated connection for a thread that must not wait.

Every thread takes a connection for one short transaction and returns it; no thread holds one while it waits for
anything but PostgreSQL.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

import psycopg2
from peewee import DatabaseError, InterfaceError, InternalError, OperationalError
from playhouse.pool import MaxConnectionsExceeded
from psycopg2.extensions import TRANSACTION_STATUS_INERROR, new_array_type, new_type, register_type
from psycopg2.extras import Json, register_uuid

from vm_webapp.database_address import parse_address
from vm_webapp.db.compiled import Compiled
from vm_webapp.db.connections import NO_MORE, Pool
from vm_webapp.db.errors import sqlstate
from vm_webapp.db.poolers import Connection, Mode, says_full
from vm_webapp.db.prepared import Prepared
from vm_webapp.db.session_settings import SessionSettings
from vm_webapp.db.stuck_connections import limit_checkouts
from vm_webapp.db.unit_of_work import UnitOfWork
from vm_webapp.errors import (
    ConnectionsTaken,
    DatabaseBusy,
    DatabaseDiskFull,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseRefused,
    DatabaseUnavailable,
)
from vm_webapp.metrics import POOL_CONNECTIONS
from vm_webapp.text import first_line

Row = dict[str, Any]
Statement = Prepared | Compiled | str
Options = Literal["taken", "refused", "swallowed"]

READ_ONLY_SQL_TRANSACTION = "25006"  # a demoted primary refuses writes with it during a failover
INSUFFICIENT_PRIVILEGE = "42501"
DISK_FULL = "53100"
# What libc says: a refused connection has no SQLSTATE, and an exhausted quota (EDQUOT) that of an internal error.
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
BUSY = frozenset({"55P03", "57014", "40P01"})  # lock_not_available, query_canceled, deadlock_detected
# New processes, and pools that grow, leave so many to those who look into an incident: migrate, doctor, queue.
OPERATOR_CONNECTIONS = 3
CONVERTED = (DatabaseError, InterfaceError, MaxConnectionsExceeded)
WAIT_FOR_CONNECTION_SECONDS = 5.0
STATEMENT_TIMEOUT_MS = 10_000

# autoconnect=False: a statement outside transaction() fails, where Peewee would open a connection and leave it open.
database = Pool(None, autoconnect=False)
POOL_CONNECTIONS.labels("in_use").set_function(lambda: database.taken)
POOL_CONNECTIONS.labels("idle").set_function(lambda: database.idle)
_dedicated = threading.local()
_disk_full_at = -math.inf  # monotonic time

register_uuid()
# The ids of a page come back each time that it is read, and to make one takes longer than to look it up.
_uuid_of = lru_cache(maxsize=4096)(UUID)
_UUID = new_type((2950,), "UUID", lambda text, _: None if text is None else _uuid_of(text))
register_type(_UUID)
register_type(new_array_type((2951,), "UUID[]", _UUID))


def open_pool(url: str, *, max_connections: int, application_name: str, leave_free: int = 0) -> None:
    """Point this process at a database. Nothing is connected yet.

    Args:
        url: ``postgresql://`` or ``postgres://`` URL, or libpq's ``key=value`` pairs.
        max_connections: most connections of this pool; a thread waits its turn for one.
        application_name: how ``pg_stat_activity`` names this process.
        leave_free: how many connections of the server this pool leaves to others.

    Raises:
        ConfigurationError: the URL is not one that libpq understands.
    """
    database.init(
        **_connecting(url, application_name, statement_timeout_ms=STATEMENT_TIMEOUT_MS),
        max_connections=max_connections,
        timeout=WAIT_FOR_CONNECTION_SECONDS,
    )
    database.leave_free(leave_free)
    limit_checkouts(database, seconds=_longest_checkout(STATEMENT_TIMEOUT_MS))


def session_settings(statement_timeout_ms: int = STATEMENT_TIMEOUT_MS) -> dict[str, str]:
    """Return the settings of our sessions: name → value, times in milliseconds."""
    return {
        "TimeZone": "UTC",
        "statement_timeout": str(statement_timeout_ms),
        "lock_timeout": "5000",
        # Because a block that hangs between two statements would keep its locks.
        "idle_in_transaction_session_timeout": "5000",
        # What is prepared is planned once. By itself PostgreSQL plans anew for the values of each execution wherever it
        # expects a cheaper plan for them, and that takes longer than executing the statements that are prepared here.
        "plan_cache_mode": "force_generic_plan",
    }


def close_pool() -> None:
    """Close every idle connection; those in use stay open."""
    if not database.deferred:
        database.close_idle()


@contextmanager
def dedicated_connection(url: str, *, application_name: str, statement_timeout_ms: int) -> Iterator[None]:
    """Give the calling thread a connection that no other thread can take, for as long as the block lasts.

    Every ``transaction()`` of this thread then uses it. The next transaction replaces a connection that broke.
    """
    connecting = _connecting(url, application_name, statement_timeout_ms=statement_timeout_ms)
    # A pool of one instead of a bare connection: Peewee's pool replaces a connection that broke.
    dedicated = Pool(**connecting, max_connections=1, timeout=1, autoconnect=False)
    limit_checkouts(dedicated, seconds=_longest_checkout(statement_timeout_ms))
    _dedicated.database = dedicated
    try:
        yield
    finally:
        del _dedicated.database
        dedicated.close_idle()


@contextmanager
def transaction(*, durable: bool = True) -> Iterator[None]:
    """Run the block in one transaction on a connection of the pool; ``rows`` and ``execute`` work inside.

    Inside another transaction the block joins that one: everything commits together or not at all, as durably as the
    outer one says.

    The calls that the block passed to ``after_commit`` run after the commit, when the connection is back in the pool.

    Args:
        durable: False lets COMMIT return before the change is on disk, for changes whose loss only repeats work.

    Raises:
        DatabaseUnavailable: there is no connection, or it broke. If it broke in COMMIT, the outcome is unknown.
    """
    current = _database()
    if current.in_transaction():
        yield
        return
    with _unit_of_work(current.begun(durable=durable)):
        yield
        _refuse_failed_transaction(current)


class autocommit:  # noqa: N801 - used as a function; a generator would cost as much as its shorter statements
    """Run each statement of the block as a transaction of its own: one round trip, without BEGIN and COMMIT.

    For one statement that writes, or for statements that only read. After the block the calls that were passed to
    ``after_commit`` run, as with ``transaction``. Inside a transaction the block joins it.

    Args:
        durable: as of ``transaction``.

    Raises:
        DatabaseUnavailable: there is no connection, or it broke; the outcome is unknown then.
    """

    __slots__ = ("_durable", "_pool", "_unit")

    def __init__(self, *, durable: bool = True) -> None:
        self._durable = durable

    def __enter__(self) -> None:
        current = _database()
        self._pool = current if current.is_closed() else None
        if self._pool is None:
            return
        try:
            self._pool.connect()
        except CONVERTED as error:
            raise _converted(error) from error
        if not self._durable:
            self._pool.connection().durable = False
        self._unit = UnitOfWork()
        self._unit.begin()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._pool is None:
            return
        self._unit.end()
        if not self._durable:
            self._pool.connection().durable = True
        self._pool.close()
        if error is None:
            # Now that this thread holds no connection any more.
            self._unit.committed()
        elif isinstance(error, CONVERTED) and (converted := _converted(error)) is not error:
            raise converted from error


@contextmanager
def _unit_of_work(held: AbstractContextManager[Any]) -> Iterator[None]:
    """Hold a connection for the block, and make the calls that it passed to ``after_commit`` after it."""
    unit = UnitOfWork()
    try:
        with held, unit.collecting():
            yield
    except CONVERTED as error:
        converted = _converted(error)
        if converted is error:
            raise
        raise converted from error
    # After the block, so that this thread holds no connection while the calls are made.
    unit.committed()


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a connection of the pool is, and what is in force on it.

    Attributes:
        mode: PostgreSQL itself, or a pooler in session or transaction mode.
        options: what became of the settings as start-up options.
        time_outs: name → what SHOW says within a transaction of ours.
        expected: name → what it should be, in milliseconds.
    """

    mode: Mode
    options: Options
    time_outs: dict[str, str]
    expected: dict[str, str]


def examine_session() -> SessionFacts:
    """Ask the pool's connection what is really in force, and find out whether a pooler stands in between.

    Raises:
        DatabaseUnavailable: there is no connection, or it broke.
    """
    expected = {name: value for name, value in session_settings().items() if name.endswith("timeout")}
    current = _database()
    try:
        with current.connection_context():
            with transaction(durable=False):
                shown = {name: str(rows(f"SHOW {name}")[0][name]) for name in expected}
            connection: Connection = current.connection()
            mode = current.find_mode()
    except (OperationalError, InterfaceError, MaxConnectionsExceeded, psycopg2.Error) as error:
        raise _unavailable(error) from error
    options: Options = "refused" if not connection.options_sent else "swallowed"
    return SessionFacts(mode, "taken" if connection.options_in_force else options, shown, expected)


def is_crowded(needed: int) -> bool:
    """Whether fewer connections of the server are free; to be called in a transaction. False through a pooler."""
    return _database().is_crowded(needed)


def is_proxied() -> bool:
    """Whether something between this process and PostgreSQL answers for it, such as a pooler; in a transaction."""
    connection: Connection = _database().connection()
    return connection.proxied


def close_idle() -> None:
    """Close the idle connections of the current thread's pool, so that others may have them."""
    _database().close_idle()


def disk_was_full(*, within_seconds: float) -> bool:
    """Return whether a statement of this process has met a full disk of the database lately."""
    return time.monotonic() - _disk_full_at < within_seconds


def refusal(error: DatabaseError) -> DatabaseRefused:
    """Return the error to show for one with which PostgreSQL refused a statement of ours; it says what to do."""
    message = first_line(error)
    if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
        return DatabaseRefused(f"{message}: grant the role of VM_DB_URL what it needs")
    return DatabaseRefused(
        f"the schema is not what its migrations say ({message}):"
        " run python -m vm_webapp migrate; if nothing is pending, the schema was changed by hand"
    )


def rows(statement: Statement, **values: Any) -> list[Row]:
    """Run a statement inside the current transaction and return its rows as dictionaries: column name → value.

    Args:
        statement: a compiled Peewee query; SQL text with ``%(name)s`` where Peewee cannot express it; either of them
            prepared.
        values: the statement's parameters by name.
    """
    cursor = _run(statement, values)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, found, strict=True)) for found in cursor.fetchall()]


def row(statement: Statement, **values: Any) -> Row | None:
    """Like ``rows``, for a statement that returns one row or none."""
    found = rows(statement, **values)
    return found[0] if found else None


def execute(statement: Statement, **values: Any) -> int:
    """Run a statement inside the current transaction and return how many rows it affected."""
    return int(_run(statement, values).rowcount)


def execute_along(statement: Prepared, **values: Any) -> None:
    """Run a statement inside the current transaction in one message with its next statement, or with its COMMIT.

    That is a round trip less. The next statement, or the end of the transaction, raises this one's error; it sees what
    this one has done, and what was committed until then. What this one returns is dropped.
    """
    _database().execute_along(statement, values)


def jsonb(value: Any) -> Json:
    """Wrap a value for a ``jsonb`` column."""
    return Json(value)


def _run(statement: Statement, values: dict[str, Any]) -> Any:
    if isinstance(statement, Prepared):
        return _database().execute_prepared(statement, values)
    if isinstance(statement, str):
        return _database().execute_sql(statement, values)
    return _database().execute_sql(statement.text, statement.values(values))


def _database() -> Pool:
    dedicated: Pool | None = getattr(_dedicated, "database", None)
    return dedicated or database


def _refuse_failed_transaction(current: Pool) -> None:
    # PostgreSQL executes the COMMIT of a transaction in which a statement failed as a rollback, without an error.
    if current.connection().info.transaction_status == TRANSACTION_STATUS_INERROR:
        raise InternalError("a statement of this transaction failed and the block went on: nothing can be committed")


def _longest_checkout(statement_timeout_ms: int) -> float:
    # Twice the time-out: a statement may use all of it, and the server's error then needs time to arrive.
    return 2 * statement_timeout_ms / 1000


def _connecting(address: str, application_name: str, *, statement_timeout_ms: int) -> dict[str, Any]:
    parameters: dict[str, Any] = parse_address(address)
    given = parameters.pop("options", "")
    parameters.update(
        application_name=application_name,
        keepalives_idle=10,
        keepalives_interval=3,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )
    parameters.setdefault("connect_timeout", 3)
    settings = SessionSettings(session_settings(statement_timeout_ms), given)
    # The name means nothing to libpq: the parameters, a service file or the environment name the database.
    return {"database": "the one of the parameters", "parameters": parameters, "settings": settings}


def _converted(error: Exception) -> Exception:
    """Return the error that callers expect in place of one of Peewee's."""
    if isinstance(error, (OperationalError, InterfaceError, MaxConnectionsExceeded)):
        return _unavailable(error)
    if type(error) is DatabaseError and sqlstate(error) is None:
        # psycopg2 raises it where a connection broke and libpq has not noticed yet.
        return _unavailable(error)
    if isinstance(error, InternalError) and sqlstate(error) == READ_ONLY_SQL_TRANSACTION:
        return DatabaseReadOnly(first_line(error))
    if isinstance(error, InternalError) and NO_SPACE.search(str(error)):
        return _disk_full(first_line(error))
    return error


def _unavailable(error: Exception) -> DatabaseUnavailable:
    message = first_line(error)
    if isinstance(error, MaxConnectionsExceeded):
        return DatabaseFull(NO_MORE) if _database().full else ConnectionsTaken(message)
    if sqlstate(error) in BUSY:
        return DatabaseBusy(message)
    if sqlstate(error) == DISK_FULL or NO_SPACE.search(str(error)):
        return _disk_full(message)
    return DatabaseFull(message) if says_full(error) else DatabaseUnavailable(message)


def _disk_full(message: str) -> DatabaseDiskFull:
    global _disk_full_at
    _disk_full_at = time.monotonic()
    return DatabaseDiskFull(message)
