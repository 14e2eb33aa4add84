"""Holds the lock of an idempotency key, as another process does while it works under it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2

from tests.support.runs import read
from tests.support.waiting import eventually
from vm_webapp.idempotency import KeyScope, lock_number


@contextmanager
def held_key(database_url: str, scope: KeyScope) -> Iterator[None]:
    """Hold the key for the block, then break the connection off, and wait until the server has noticed."""
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(scope.digest),))
        holder = session.info.backend_pid
        yield
    gone = "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = %(pid)s) AS gone"
    eventually(lambda: read(gone, pid=holder)[0]["gone"], "the server has noticed")
