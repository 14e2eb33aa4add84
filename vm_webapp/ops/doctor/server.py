"""Checks the PostgreSQL server: whether it accepts writes, its clock and its free connections."""

from __future__ import annotations

from datetime import UTC, datetime

from vm_webapp.db.pool import row
from vm_webapp.db.sessions import API_CONNECTIONS, WORKER_CONNECTIONS, name_session
from vm_webapp.errors import DatabaseReadOnly
from vm_webapp.ops.doctor.check import Check, fail, ok, warn
from vm_webapp.settings import Settings

CLOCK_SECONDS = 2.0


def check_database(settings: Settings) -> Check:
    """Check whether the server responds and accepts writes; name the embedded one if no URL is set."""
    found = row("SELECT current_setting('transaction_read_only') = 'on' AS read_only")
    assert found is not None
    if found["read_only"]:
        return fail("database", "it responds and takes no writes", DatabaseReadOnly.todo)
    which = f": the embedded one under {settings.workspace_root}" if settings.mode == "local" else ""
    return ok("database", f"it responds{which}")


def check_clock() -> Check:
    """Check how far this machine's clock is from the database's, which times the leases."""
    before = datetime.now(UTC)
    found = row("SELECT clock_timestamp() AS now")
    after = datetime.now(UTC)
    assert found is not None
    return judge_clock((found["now"] - (before + (after - before) / 2)).total_seconds())


def judge_clock(difference: float) -> Check:
    """Judge the difference of the clocks.

    Args:
        difference: seconds by which the database's clock is ahead of this machine's; negative if it is behind.
    """
    detail = f"this machine is {abs(difference):.1f} s {'behind' if difference > 0 else 'ahead of'} the database"
    if abs(difference) > CLOCK_SECONDS:
        return warn("clock", detail, "set the clock of this machine: timedatectl set-ntp true")
    return ok("clock", detail)


def check_connections(processes: int = 1) -> Check:
    """Check whether the server has enough free connections, if an API consists of this many processes."""
    # pg_stat_activity hides the type and the state of other roles' sessions from a role without privileges. Such a row
    # counts as a client's if it has a role and a database; most background processes lack one of them.
    found = row(
        """
        SELECT count(*) AS used,
               count(*) FILTER (WHERE datname = current_database() AND starts_with(application_name, %(api)s)) AS apis,
               current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - coalesce(current_setting('reserved_connections', true)::int, 0) AS most
          FROM pg_stat_activity
         WHERE backend_type = 'client backend' OR (backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL)
        """,
        api=name_session("api", ""),
    )
    assert found is not None
    return judge_connections(found["used"], found["most"], by_apis=found["apis"], processes=processes)


def judge_connections(used: int, most: int, *, by_apis: int = 0, processes: int = 1) -> Check:
    """Judge whether enough connections are free for another worker and another API.

    Args:
        used: connections in use.
        most: connections that the server accepts from roles without special rights.
        by_apis: connections in use by API processes.
        processes: number of processes of an API.
    """
    left, of_api = most - used, API_CONNECTIONS * processes
    detail = (
        f"{used} of {most} in use, {by_apis} by API processes; another API needs {of_api}"
        f" ({API_CONNECTIONS} a process, WEB_CONCURRENCY {processes}), another worker {WORKER_CONNECTIONS}"
    )
    if left <= 0:
        return fail("connections", detail, "scale the services down, or take a larger database")
    # A rolling deploy needs as many: it starts the new instances before it stops the old ones.
    if left < of_api + WORKER_CONNECTIONS:
        detail += ": no room for another worker and another API"
        return warn("connections", detail, "take a larger database before scaling up")
    return ok("connections", detail)
