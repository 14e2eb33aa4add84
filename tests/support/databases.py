"""Databases for tests. Each test gets an empty one; most are reused from earlier tests, which is faster."""

from __future__ import annotations

from contextlib import closing
from typing import Any
from uuid import uuid4

import psycopg2

from vm_webapp.local import LocalServers

TEMPLATE = "vm_template"
APPLICATION = "databases of the tests"

# What a test may have changed and deleting rows does not undo: the rows of the catalog that describe our schema, each
# with the transaction that wrote it. Definitions as text would take ten times as long to compare.
SHAPE = """
WITH tables AS (SELECT oid, xmin FROM pg_class WHERE relnamespace = 'public'::regnamespace)
SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (
    SELECT concat_ws(' ', 'table', oid, xmin) AS line FROM tables
    UNION ALL SELECT concat_ws(' ', attrelid, attnum, xmin) FROM pg_attribute WHERE attrelid IN (SELECT oid FROM tables)
    UNION ALL SELECT concat_ws(' ', 'default', oid, xmin) FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM tables)
    UNION ALL SELECT concat_ws(' ', 'index', indexrelid, xmin) FROM pg_index WHERE indrelid IN (SELECT oid FROM tables)
    UNION ALL SELECT concat_ws(' ', 'constraint', oid, xmin) FROM pg_constraint
               WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', 'trigger', oid, xmin) FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM tables)
    UNION ALL SELECT concat_ws(' ', 'function', oid, xmin) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', 'setting', setrole, setconfig::text) FROM pg_db_role_setting
               WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) everything
"""
LOCAL_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def url_of(servers: LocalServers, name: str) -> str:
    """Return the URL of a database."""
    return servers.database_url.replace("/vm_webapp?", f"/{name}?")


class Databases:
    """The databases of a test session.

    Args:
        servers: the PostgreSQL that they are on, whose own database is migrated and not used.
    """

    def __init__(self, servers: LocalServers) -> None:
        self._servers = servers
        self._clean: list[str] = []
        # The sessions in which databases were emptied: name → session. A new one has to read the catalog first, which
        # takes five times as long as all else.
        self._kept: dict[str, Any] = {}
        self._administer(f'CREATE DATABASE "{TEMPLATE}" TEMPLATE vm_webapp')
        with closing(self._connect(TEMPLATE)) as session, session.cursor() as cursor:
            cursor.execute(LOCAL_TABLES)
            tables = sorted(name for (name,) in cursor.fetchall())
            filled = {name: self._content(cursor, name) for name in tables}
            self._seeded = {name: content for name, content in filled.items() if content is not None}
            empty = [name for name in tables if name not in self._seeded]
            # Skips foreign keys and triggers, so that tables can be emptied in any order.
            self._delete_all = "; ".join(
                ["SET session_replication_role = replica", *(f'DELETE FROM "{name}"' for name in empty)]
            )
            self._shape = self._read_shape(cursor)

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return url_of(self._servers, name)

    def take(self) -> str:
        """Return the name of a migrated, empty database, for the caller's use alone."""
        if self._clean:
            return self._clean.pop()
        return self.copy(TEMPLATE)

    def copy(self, source: str) -> str:
        """Return the name of a copy of a database, to which nobody is connected."""
        self._end_kept(source)
        name = f"test_{uuid4().hex}"
        # Four times as fast as the default strategy, which writes every page to the WAL.
        self._administer(f'CREATE DATABASE "{name}" TEMPLATE "{source}" STRATEGY file_copy')
        return name

    def drop(self, name: str) -> None:
        """Drop a database, and end the sessions that it has."""
        self._end_kept(name)
        self._administer(f'DROP DATABASE "{name}" WITH (FORCE)')

    def release(self, name: str) -> None:
        """Empty a database for the next test, or drop it if its schema or seeded rows have changed."""
        if self._empties(name):
            self._clean.append(name)
        else:
            self.drop(name)

    def close_kept(self) -> None:
        """End the sessions that are kept, for a test that counts all sessions or connections."""
        for name in list(self._kept):
            self._end_kept(name)

    def _end_kept(self, name: str) -> None:
        if name in self._kept:
            self._kept.pop(name).close()

    def _empties(self, name: str) -> bool:
        kept = self._kept.pop(name, None)
        # A test may have ended the session that was kept.
        for session in (kept, None) if kept else (None,):
            try:
                session = session or self._connect(name)
                if self._is_empty_now(session):
                    self._kept[name] = session
                    return True
                session.close()
                return False
            except psycopg2.Error:
                continue
        return False

    def _is_empty_now(self, session: Any) -> bool:
        with session.cursor() as cursor:
            cursor.execute(END_SESSIONS)
            cursor.execute(self._delete_all)
            seeded = {table: self._content(cursor, table) for table in self._seeded}
            return (seeded, self._read_shape(cursor)) == (self._seeded, self._shape)

    def _connect(self, name: str) -> Any:
        session = psycopg2.connect(self.url(name), application_name=APPLICATION)
        session.autocommit = True
        return session

    def _administer(self, statement: str) -> None:
        with closing(self._connect("postgres")) as session, session.cursor() as cursor:
            cursor.execute(statement)

    @staticmethod
    def _content(cursor: Any, table: str) -> str | None:
        """Return a digest of a table's rows, None if there are none."""
        cursor.execute(f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM \"{table}\" t")
        (digest,) = cursor.fetchone()
        return None if digest is None else str(digest)

    @staticmethod
    def _read_shape(cursor: Any) -> str:
        cursor.execute(SHAPE)
        return str(cursor.fetchone()[0])
