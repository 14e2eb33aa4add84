"""States that tests create directly in the database: a stage that waits too long, a migration of a newer build."""

from __future__ import annotations

from tests.support.fleet import change
from tests.support.runs import CreatedRun, create
from vm_webapp.db.pool import close_pool, open_pool


def reopen_pool(url: str) -> None:
    """Point this process at a database, without the idle connections that its pool has kept."""
    close_pool()
    open_pool(url, max_connections=2, application_name="tests")


def create_overdue_stage(seconds: int = 20) -> CreatedRun:
    """Create a run whose first stage has been due for so many seconds."""
    created = create("content_calendar")
    change("UPDATE stages SET available_at = now() - %(s)s * interval '1 s' WHERE status = 'queued'", s=seconds)
    return created


def apply_future_migration() -> None:
    """Record a migration of a newer build, which does not declare that this build can run on it."""
    # No entry in the archive, whose header would name the oldest build that runs on it.
    change("INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('f', '9999_from_the_future')")
