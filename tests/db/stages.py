"""Due stages, and steps that move times in the database instead of waiting."""

from __future__ import annotations

from uuid import UUID

from tests.support.runs import create
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs.records import Priority
from vm_webapp.workflows.loader import load_catalog

CATALOG = load_catalog()


def create_stages(count: int, workflow: str = "content_calendar", *, priority: Priority = "normal") -> list[UUID]:
    """Create runs; return the stages that are due, oldest first."""
    return [create(workflow, priority=priority).stage_id for _ in range(count)]


def make_due() -> None:
    """End every backoff."""
    with transaction():
        execute("UPDATE stages SET available_at = now() WHERE status = 'queued'")


def expire_leases() -> None:
    """Expire every lease."""
    # The token stays: an expired lease is lost only when a rescue clears the token.
    with transaction():
        execute("UPDATE stages SET lease_expires_at = now() - interval '1 s' WHERE status = 'running'")


def end_pauses() -> None:
    """End every pause that ends by itself."""
    # ``paused_at`` stays: the provider remains paused until a probe succeeds.
    with transaction():
        execute("UPDATE providers SET paused_until = now() WHERE paused_until IS NOT NULL")


def pause_provider(name: str, *, until: str | None) -> None:
    """Pause a provider for an interval, or until an operator resumes it."""
    with transaction():
        execute(
            """
            INSERT INTO providers (name, paused_at, paused_until, reason)
            VALUES (%(name)s, now(), now() + %(until)s::interval, '{"code": "c", "message": "m"}')
            ON CONFLICT (name) DO UPDATE SET paused_at = excluded.paused_at, paused_until = excluded.paused_until,
                                             reason = excluded.reason
            """,
            name=name,
            until=until,
        )
