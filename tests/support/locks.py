"""Locks that another session holds, as an operator's forgotten one does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg2

HOLDER = "somebody's psql"
# Every mode of a table lock, the weakest first; the last four conflict with writes, the very last with reads, too.
MODES = (
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)


@contextmanager
def holding(url: str, *statements: str, application: str = HOLDER) -> Iterator[int]:
    """Run statements in a transaction that stays open for the block; yield the pid of its session."""
    with closing(psycopg2.connect(url, application_name=application)) as session, session.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
        for statement in statements:
            cursor.execute(statement)
        yield session.info.backend_pid
        with suppress(psycopg2.Error):  # the session may have been ended meanwhile
            session.rollback()  # a session that is only closed keeps its locks for a moment


@contextmanager
def waiting(url: str, statement: str, *, application: str) -> Iterator[int]:
    """Run a statement that has to wait for a lock for as long as the block lasts; yield the pid of its session."""
    session: Any = psycopg2.connect(url, application_name=application)

    def run() -> None:
        try:
            with session.cursor() as cursor:
                cursor.execute(statement)
        except psycopg2.Error:
            session.rollback()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield session.info.backend_pid
    finally:
        session.cancel()
        thread.join(10)
        session.close()


def lock_of(table: str, mode: str) -> str:
    """Return the statement that locks a table."""
    return f'LOCK TABLE "{table}" IN {mode} MODE'
