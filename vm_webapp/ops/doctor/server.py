"""The PostgreSQL server: whether it takes writes, its clock and its connections."""

from __future__ import annotations

from datetime import UTC, datetime

from vm_webapp.db.pool import row
from vm_webapp.db.sessions import API_CONNECTIONS, WORKER_CONNECTIONS, name_session
from vm_webapp.errors import DatabaseReadOnly
from vm_webapp.ops.doctor.check import Check, fail, ok, warn
from vm_webapp.settings import Settings

CLOCK_SECONDS = 2.0


def check_database(settings: Settings) -> Check:
    """Whether the server answers and takes writes, and which one it is where nobody has said."""
    found = row("SELECT current_setting('transaction_read_only') = 'on' AS read_only")
    assert found is not None
    if found["read_only"]:
        return fail("database", "it answers and takes no writes", DatabaseReadOnly.todo)
    which = f": the embedded one under {settings.workspace_root}" if settings.mode == "local" else ""
    return ok("database", f"it answers{which}")


def check_clock() -> Check:
    """How far this machine's clock is from the database's, by which leases are counted."""
    before = datetime.now(UTC)
    found = row("SELECT clock_timestamp() AS now")
    after = datetime.now(UTC)
    assert found is not None
    return judge_clock((found["now"] - (before + (after - before) / 2)).total_seconds())


def judge_clock(difference: float) -> Check:
    """Say whether so many seconds, by which the database is ahead, are too many."""
    detail = f"this machine is {abs(difference):.1f} s {'behind' if difference > 0 else 'ahead of'} the database"
    if abs(difference) > CLOCK_SECONDS:
        return warn("clock", detail, "set the clock of this machine: timedatectl set-ntp true")
    return ok("clock", detail)


def check_connections(processes: int = 1) -> Check:
    """How many more connections the server takes from us, where an API is so many processes."""
    # Of other roles' sessions a plain role is shown neither the type nor the state.
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
    """Say whether there is room for more connections: those of another worker and of another API.

    Args:
        used: those in use.
        most: how many the server takes.
        by_apis: how many of those in use are those of API processes.
        processes: how many processes an API is.
    """
    left, of_api = most - used, API_CONNECTIONS * processes
    detail = (
        f"{used} of {most} in use, {by_apis} by API processes; another API needs {of_api}"
        f" ({API_CONNECTIONS} a process, WEB_CONCURRENCY {processes}), another worker {WORKER_CONNECTIONS}"
    )
    if left <= 0:
        return fail("connections", detail, "scale the services down, or take a larger database")
    if left < of_api + WORKER_CONNECTIONS:
        detail += ": no room for another worker and another API"
        return warn("connections", detail, "take a larger database before scaling up")
    return ok("connections", detail)
