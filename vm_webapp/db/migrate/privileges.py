"""Names the GRANT to type when the role lacks a privilege that a migration needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
from psycopg2 import errors

from vm_webapp.db.migrate.failures import MigrationFailed
from vm_webapp.db.migrate.session import query
from vm_webapp.text import first_line

_MUST_OWN = re.compile(r'must be owner of (?:table|index|sequence|view|relation) "?([^"]+)"?')
_DENIED = re.compile(r'permission denied for (schema|table|sequence|view|database) "?([^"]+)"?')

_RIGHTS = {"schema": "USAGE, CREATE", "database": "CREATE"}
_OWNER = """
SELECT 'GRANT ' || quote_ident(pg_get_userbyid(relowner)) || ' TO ' || quote_ident(current_user) AS statement
  FROM pg_class WHERE relname = %(name)s AND relkind <> 'c' LIMIT 1
"""


@contextmanager
def named_grants(session: Any) -> Iterator[None]:
    """Add the statement that grants what the role lacks to the MigrationFailed of the block.

    Args:
        session: the session that has the advisory lock.
    """
    try:
        yield
    except MigrationFailed as error:
        cause = error.__cause__
        grant = ""
        with suppress(psycopg2.Error):
            grant = _grant_for(session, cause)
        if not grant:
            raise
        raise MigrationFailed(f"{error}; as the owner or a superuser: {grant}") from cause


def _grant_for(session: Any, error: BaseException | None) -> str:
    if isinstance(error, errors.InvalidSchemaName):
        # What PostgreSQL says of a role that may not even use the schema.
        return _grant(session, "USAGE, CREATE ON SCHEMA", "public")
    if not isinstance(error, errors.InsufficientPrivilege):
        return ""
    if owned := _MUST_OWN.search(first_line(error)):
        found = query(session, _OWNER, name=owned[1])
        return str(found[0]["statement"]) if found else ""
    if denied := _DENIED.search(first_line(error)):
        kind, name = denied.groups()
        kind, rights = ("table", "ALL") if kind == "view" else (kind, _RIGHTS.get(kind, "ALL"))
        return _grant(session, f"{rights} ON {kind.upper()}", name)
    return ""


def _grant(session: Any, what: str, name: str) -> str:
    quoted = query(session, "SELECT quote_ident(%(name)s) AS name, quote_ident(current_user) AS role", name=name)[0]
    return f"GRANT {what} {quoted['name']} TO {quoted['role']}"
