"""Checks the PostgreSQL server: whether it accepts writes, its clock and its free connections."""

from __future__ import annotations

from datetime import UTC, datetime

from vm_webapp.db.connections import CLIENTS, MOST_CLIENTS
from vm_webapp.db.pool import OPERATOR_CONNECTIONS, row
from vm_webapp.db.sessions import name_session
from vm_webapp.errors import DatabaseReadOnly
from vm_webapp.ops.doctor.check import Check, fail, ok, warn
from vm_webapp.settings import Settings

CLOCK_SECONDS = 2.0
RECENT_EVENTS = 1000
_LATEST_TIME = """
    SELECT max(created_at) AS latest FROM (SELECT created_at FROM events ORDER BY id DESC LIMIT %(events)s) recent
"""


def check_database(settings: Settings) -> Check:
    """Check whether the server responds and accepts writes; name the embedded one if no URL is set."""
    found = row("SELECT current_setting('transaction_read_only') = 'on' AS read_only")
    assert found is not None
    if found["read_only"]:
        return fail("database", "it responds and takes no writes", DatabaseReadOnly.todo)
    which = f": the embedded one under {settings.workspace_root}" if settings.mode == "local" else ""
    return ok("database", f"it responds{which}")


def check_clock() -> Check:
    """Check whether the database's clock, which times the leases, has stepped back, and how far this machine's is."""
    before = datetime.now(UTC)
    found = row("SELECT clock_timestamp() AS now")
    after = datetime.now(UTC)
    assert found is not None
    recorded = row(_LATEST_TIME, events=RECENT_EVENTS)
    if recorded is not None and recorded["latest"] is not None:
        back = (recorded["latest"] - found["now"]).total_seconds()
        if back > CLOCK_SECONDS:
            return warn(
                "clock",
                f"the database's clock is {back:.1f} s behind its own timelines: it has stepped back",
                "check the time synchronisation of the database's machines; the workers have moved what waits",
            )
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


def check_connections(settings: Settings) -> Check:
    """Check whether the server has enough free connections for a rolling deploy of what is connected now."""
    found = row(
        f"""
        SELECT count(*) AS used,
               count(*) FILTER (WHERE datname = current_database() AND starts_with(application_name, %(api)s)) AS apis,
               count(*) FILTER (WHERE datname = current_database() AND starts_with(application_name, %(pulse)s))
                   AS pulses,
               {MOST_CLIENTS} AS most
          FROM pg_stat_activity
         WHERE {CLIENTS}
        """,
        api=name_session("api", ""),
        pulse=name_session("pulse", ""),
    )
    assert found is not None
    return judge_connections(
        found["used"], found["most"], by_apis=found["apis"], workers=found["pulses"], settings=settings
    )


def judge_connections(
    used: int, most: int, *, by_apis: int = 0, workers: int = 0, settings: Settings | None = None
) -> Check:
    """Judge whether enough connections are free for a rolling deploy, which starts the new before it ends the old.

    Args:
        used: connections in use.
        most: connections that the server accepts from roles without special rights.
        by_apis: connections in use by API processes.
        workers: number of workers; each has one session of its maintenance loop.
        settings: the sizes of the pools and the number of processes of an API.
    """
    settings = settings or Settings()
    left, of_api = most - used, settings.api_connections * settings.web_concurrency
    of_worker = settings.worker_connections
    # No instance of the API says how many there are: at least as many as their connections need.
    apis, workers = max(1, -(-by_apis // of_api)), max(1, workers)
    detail = (
        f"{used} of {most} in use, {by_apis} by API processes; another API needs {of_api}"
        f" ({settings.api_connections} a process, WEB_CONCURRENCY {settings.web_concurrency}),"
        f" another worker {of_worker}, operators {OPERATOR_CONNECTIONS}"
    )
    if left <= 0:
        return fail("connections", detail, "scale the services down, or take a larger database")
    if left < of_api + of_worker + OPERATOR_CONNECTIONS:
        detail += ": no room for another worker and another API"
        return warn("connections", detail, "take a larger database before scaling up")
    deploy = apis * of_api + workers * of_worker + OPERATOR_CONNECTIONS
    if left < deploy:
        detail += f": a rolling deploy of {workers} workers and {apis} APIs needs {deploy}, and {left} are free"
        todo = "take a larger database, or lower VM_API_CONNECTIONS and VM_WORKER_CONNECTIONS"
        return warn("connections", detail, f"{todo}, or new instances wait until old ones end")
    return ok("connections", detail)
