"""The names of our sessions in ``pg_stat_activity``: the kind of process and its build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from vm_webapp.db.pool import Row, rows

Process = Literal["api", "worker", "pulse", "command"]


def name_session(process: Process, build: str) -> str:
    """Return the ``application_name`` of a process; PostgreSQL keeps 63 bytes of it."""
    return f"vm-webapp {process} {build}"


def read_builds(process: Process, query: Callable[..., list[Row]] = rows) -> list[str]:
    """Return the builds of all processes of one kind that are connected to this database now.

    Args:
        process: the kind of process.
        query: executes a statement and returns its rows, by default inside the current transaction.
    """
    prefix = name_session(process, "")
    # PgBouncer may append the client's address to the name, after a space; a build has none.
    found = query(
        """
        SELECT DISTINCT split_part(substr(application_name, length(%(prefix)s) + 1), ' ', 1) AS build
          FROM pg_stat_activity
         WHERE datname = current_database() AND starts_with(application_name, %(prefix)s)
         ORDER BY build
        """,
        prefix=prefix,
    )
    return [each["build"] for each in found]
