"""Counts what a process sends to PostgreSQL, on the wire: its round trips and its commits."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.support.links import link_to_postgres

QUERY = b"Q"  # psycopg2 sends everything by the simple query protocol: one message is one round trip
LENGTH_BYTES = 4


class Query(NamedTuple):
    """A message to PostgreSQL, of one or more statements.

    Attributes:
        session: the ``application_name`` of its connection.
        sql: its text.
        commits: whether it ended a transaction, be it one that it was on its own, and did not roll it back.
    """

    session: str
    sql: str
    commits: bool


class Traffic:
    """The queries that went through a link, oldest first."""

    def __init__(self) -> None:
        self._queries: list[Query] = []
        self._lock = threading.Lock()

    def reader(self) -> Callable[[bytes], object]:
        """Return what reads the data of a new connection."""
        return _ClientData(self._add).feed

    def taken(self) -> list[Query]:
        """Return all queries, and forget them."""
        with self._lock:
            taken, self._queries = self._queries, []
        return taken

    def _add(self, query: Query) -> None:
        with self._lock:
            self._queries.append(query)


class _ClientData:
    """Finds the queries in what one client sends (PostgreSQL's documentation, "Message Formats")."""

    def __init__(self, add: Callable[[Query], object]) -> None:
        self._add = add
        self._data = b""
        self._session: str | None = None  # None before the first message
        self._in_transaction = False

    def feed(self, data: bytes) -> None:
        self._data += data
        while message := self._next():
            if self._session is None:
                named = re.search(rb"\0application_name\0([^\0]*)\0", message)
                self._session = named[1].decode() if named else ""
            elif message[:1] == QUERY:
                self._note(self._session, message[1 + LENGTH_BYTES :].rstrip(b"\0").decode(errors="replace").strip())

    def _next(self) -> bytes | None:
        type_bytes = 0 if self._session is None else 1  # the first message of a connection has no type
        head = type_bytes + LENGTH_BYTES
        end = type_bytes + int.from_bytes(self._data[type_bytes:head], "big")
        if len(self._data) < head or len(self._data) < end:
            return None
        message, self._data = self._data[:end], self._data[end:]
        return message

    def _note(self, session: str, sql: str) -> None:
        first, last = sql.split(maxsplit=1)[0].upper(), sql.rstrip("; ").rsplit(maxsplit=1)[-1].upper()
        begins = self._in_transaction or first.rstrip(";") == "BEGIN"
        self._in_transaction = begins and last not in ("COMMIT", "ROLLBACK")
        self._add(Query(session, sql, commits=not self._in_transaction and last != "ROLLBACK"))


@contextmanager
def counted(database_url: str) -> Iterator[tuple[Traffic, str]]:
    """Yield the traffic of those who connect to the URL that is yielded with it."""
    traffic = Traffic()
    with link_to_postgres(database_url, traffic.reader) as (_, url):
        yield traffic, url
