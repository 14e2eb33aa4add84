"""Peewee's database, changed: BEGIN and COMMIT go along with statements, which PostgreSQL prepares.

The settings of its sessions get through poolers as well: where a pooler stands in between and start-up options do not
reach PostgreSQL, every transaction brings them along, in one message with BEGIN, and a statement outside of a
transaction does in one message with itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import peewee
from peewee import DatabaseError, PostgresqlDatabase
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, encodings

from vm_webapp.db.errors import sqlstate
from vm_webapp.db.poolers import Connection
from vm_webapp.db.prepared import Prepared

PEEWEES_ERRORS: Any = getattr(peewee, "__exception_wrapper__")  # noqa: B009 - its stubs do not declare it
NOT_DURABLE = "SET LOCAL synchronous_commit = off"
# feature_not_supported ("cached plan must not change result type"), invalid_sql_statement_name
NO_LONGER_VALID = frozenset({"0A000", "26000"})


class FewRoundTrips(PostgresqlDatabase):
    """A database of Peewee's that sends few messages for a transaction."""

    def begin(self, isolation_level: str | None = None, *, durable: bool = True) -> None:
        """Begin a transaction with the settings of its session.

        Args:
            isolation_level: part of Peewee's signature; the server's default is used.
            durable: False lets COMMIT return before the change is on disk.
        """
        connection: Connection = self.connection()
        if not connection.in_force:
            self._send(f"BEGIN; {_for_transaction(connection, durable=durable)}")
            return
        # Sent in one message with the first statement: a round trip less.
        connection.to_begin = "BEGIN; " if durable else f"BEGIN; {NOT_DURABLE}; "

    def commit(self) -> None:
        """Commit the transaction; nothing is sent if it had no statement."""
        connection: Connection | None = None if self.is_closed() else self.connection()
        if connection is not None and connection.along:
            self._commit_with(connection)
        elif not self._forget_begin():
            super().commit()

    def rollback(self) -> None:
        """Roll the transaction back; nothing is sent if it had no statement."""
        if not self.is_closed():
            self.connection().along = ""
        if not self._forget_begin():
            super().rollback()

    def _commit_with(self, connection: Connection) -> None:
        sql = f"{connection.to_begin}{connection.along}COMMIT"
        connection.to_begin = ""  # so that a rollback is sent if this fails
        try:
            self._send(sql)
        except DatabaseError as error:
            _prepare_anew_if_invalid(connection, error)
            raise
        connection.along = ""

    def _forget_begin(self) -> bool:
        """Return whether the transaction has not begun in PostgreSQL; it does not begin any more."""
        connection: Connection | None = None if self.is_closed() else self.connection()
        if connection is None or not connection.to_begin:
            return False
        connection.to_begin = ""
        return True

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Execute a statement, the first of a transaction with BEGIN, one outside with the settings that it needs."""
        if self.in_transaction():
            return self._execute_within(sql, params)
        if not self.is_closed():
            settings = self._settings_for_statement()
            # psycopg2 replaces %% only where there are parameters.
            sql = f"{settings.replace('%', '%%') if params else settings}{sql}"
        return cast(Any, super()).execute_sql(sql, params)

    def _execute_within(self, sql: str, params: Any) -> Any:
        connection: Connection = self.connection()
        before = f"{connection.to_begin}{connection.along}"
        if not before:
            return cast(Any, super()).execute_sql(sql, params)
        try:
            if params:
                cursor = cast(Any, super()).execute_sql(f"{before.replace('%', '%%')}{sql}", params)
            else:
                cursor = self._send(f"{before}{sql}")
        except DatabaseError as error:
            _prepare_anew_if_invalid(connection, error)
            raise
        finally:
            # Idle: nothing was sent, because psycopg2 refused a value.
            if connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
                connection.to_begin = ""
        connection.along = ""
        return cursor

    def execute_along(self, statement: Prepared, values: Mapping[str, Any]) -> None:
        """Send a statement in one message with the next one of the transaction, or with its COMMIT, which raises.

        PostgreSQL executes them in turn, the next one with a snapshot of its own. What this one returns is dropped.
        """
        assert self.in_transaction()
        connection: Connection = self.connection()
        if connection.in_force:
            name = connection.prepared.get(statement.text) or self._prepare(connection, statement)
            sql, given = statement.executing(name), cast(Any, statement.values(values))
        else:
            sql, given = statement.text, values
        with PEEWEES_ERRORS, connection.cursor() as cursor:
            connection.along += f"{cursor.mogrify(sql, given).decode(encodings[connection.encoding])}; "

    def execute_prepared(self, statement: Prepared, values: Mapping[str, Any]) -> Any:
        """Execute a statement that the connection's session prepares at its first use, and return the cursor.

        Through a pooler the session may be another one each time, and nothing is prepared.
        """
        connection: Connection = self.connection()
        if not connection.in_force:
            return self.execute_sql(statement.text, values)
        name = connection.prepared.get(statement.text) or self._prepare(connection, statement)
        try:
            return self.execute_sql(statement.executing(name), statement.values(values))
        except DatabaseError as error:
            # A migration has changed the types of its columns, or somebody has deallocated what the session prepared.
            if not _prepare_anew_if_invalid(connection, error):
                raise
            if self.in_transaction():  # it has failed; the next one succeeds
                raise
        return self.execute_sql(statement.executing(self._prepare(connection, statement)), statement.values(values))

    def _prepare(self, connection: Connection, statement: Prepared) -> str:
        name = connection.name_to_prepare()
        self._send(statement.preparing(name))
        connection.prepared[statement.text] = name
        return name

    def _send(self, sql: str) -> Any:
        # Without values, even an empty list of them, psycopg2 leaves the text as it is.
        with PEEWEES_ERRORS:
            cursor = self.cursor()
            cursor.execute(sql)
        return cursor

    def _settings_for_statement(self) -> str:
        connection: Connection = self.connection()
        settings = "" if connection.in_force else f"{connection.settings.for_transaction}; "
        # PostgreSQL executes the statements of one message as one transaction, in which SET LOCAL holds.
        return settings if connection.durable else f"{settings}{NOT_DURABLE}; "


def _prepare_anew_if_invalid(connection: Connection, error: DatabaseError) -> bool:
    """Return whether a statement that was prepared is no longer valid; all are prepared again then."""
    if sqlstate(error) not in NO_LONGER_VALID:
        return False
    connection.prepared.clear()  # a message may execute several, and the error does not say which one it was
    return True


def _for_transaction(connection: Connection, *, durable: bool) -> str:
    settings = connection.settings.for_transaction
    return settings if durable else f"{settings}; {NOT_DURABLE}"
