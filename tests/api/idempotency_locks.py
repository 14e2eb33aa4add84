"""Holds the lock of an idempotency key, as another process does while it works under it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2

from vm_webapp.idempotency import KeyScope, lock_number


@contextmanager
def held_key(database_url: str, scope: KeyScope) -> Iterator[None]:
    """Hold the key for the block, then break the connection off."""
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(scope.digest),))
        yield
