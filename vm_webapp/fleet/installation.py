"""Which database this process works on. Its keys in Redis carry the answer, because databases may share a Redis."""

from __future__ import annotations

from typing import Any, NamedTuple

from peewee import SQL, fn

from vm_webapp.db.compiled import compiled
from vm_webapp.db.models import Installation
from vm_webapp.db.pool import database, rows, transaction
from vm_webapp.errors import VMError

# The id tells installations apart. A copy that was restored from a dump has its original's id and, on the same server,
# another oid; on another server the oid may happen to be the same, and the copy is then not told from its original.
FINGERPRINT_QUERY = (
    Installation.select(fn.CONCAT(Installation.id, ":", SQL("pg_database.oid")).alias("fingerprint"))
    .from_(Installation, SQL("pg_database"))
    .where(SQL("pg_database.datname = current_database()"))
)
FINGERPRINT = compiled(FINGERPRINT_QUERY)


class _Noted(NamedTuple):
    parameters: Any  # of the pool, made anew each time that it is opened: it may lead to another database then
    fingerprint: str


_noted: _Noted | None = None


def read_fingerprint() -> str:
    """Return what identifies this database, inside the current transaction."""
    return note_fingerprint(str(rows(FINGERPRINT)[0]["fingerprint"]))


def note_fingerprint(fingerprint: str) -> str:
    """Remember what was read as this database's fingerprint, and return it."""
    global _noted
    _noted = _Noted(_parameters(), fingerprint)
    return fingerprint


def known_fingerprint() -> str | None:
    """Return the fingerprint that this process has read last, None before the first time."""
    noted = _noted
    return noted.fingerprint if noted is not None and noted.parameters is _parameters() else None


def find_fingerprint() -> str | None:
    """Return the fingerprint, and read it where it is not known yet; None if the database does not tell it now."""
    known = known_fingerprint()
    if known is not None or database.deferred:
        return known
    try:
        with transaction(durable=False):
            return read_fingerprint()
    except VMError:
        return None


def _parameters() -> Any:
    return database.connect_params.get("parameters")
