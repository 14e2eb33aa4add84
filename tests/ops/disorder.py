"""What a test puts into the database behind everybody's back: workers, work that waits, and damage."""

from __future__ import annotations

from tests.support.fleet import change
from tests.support.runs import CreatedRun, create
from vm_webapp.db.pool import close_pool, open_pool


def open_anew(url: str) -> None:
    """Point this process at a database, with none of the connections that it has kept."""
    close_pool()
    open_pool(url, max_connections=2, application_name="tests")


def leave_work_waiting(seconds: int = 20) -> CreatedRun:
    """Create a run whose first stage has been due for a while."""
    created = create("content_calendar")
    change("UPDATE stages SET available_at = now() - %(s)s * interval '1 s' WHERE status = 'queued'", s=seconds)
    return created


def migrate_ahead() -> None:
    """Have a newer build migrate, which has not said that this one can work on it."""
    change("INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('f', '9999_from_the_future')")
