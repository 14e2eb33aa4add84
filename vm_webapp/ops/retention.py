"""Deletes finished runs that are old enough: few at a time, so that each transaction is short and space is reused."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from vm_webapp.db.pool import row, rows, transaction
from vm_webapp.execution.mirror import ArtifactMirror

BATCH = 50


_OLD = """
    finished_at < now() - %(age)s
    AND NOT EXISTS (SELECT 1 FROM runs fork WHERE fork.parent_run_id = runs.id AND fork.finished_at IS NULL)
"""


def purge_batch(older_than: timedelta, *, limit: int = BATCH) -> list[UUID]:
    """Delete up to ``limit`` runs that finished longer ago than this, with their documents and timelines.

    A run that has an unfinished fork stays, so that nothing in flight is touched; so does one that somebody is just
    putting back to work.

    Returns:
        Which were deleted; fewer than ``limit`` when no more are left.
    """
    with transaction(durable=False):
        deleted = rows(
            f"""
            WITH old AS MATERIALIZED (
                SELECT id FROM runs WHERE {_OLD} ORDER BY finished_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            DELETE FROM runs USING old WHERE runs.id = old.id
            RETURNING runs.id
            """,
            age=older_than,
            limit=limit,
        )
    return [each["id"] for each in deleted]


def count_purgeable(older_than: timedelta) -> int:
    """Return how many runs ``purge_all`` would delete."""
    with transaction(durable=False):
        counted = row(f"SELECT count(*) AS n FROM runs WHERE {_OLD}", age=older_than)
    assert counted is not None
    return int(counted["n"])


def purge_all(older_than: timedelta, mirror: ArtifactMirror | None = None) -> int:
    """Delete every such run, batch by batch, and its copy on this machine; return how many were deleted."""
    deleted = 0
    while batch := purge_batch(older_than):
        deleted += len(batch)
        if mirror:
            mirror.remove(batch)
    return deleted
