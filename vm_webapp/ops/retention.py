"""Deletes finished runs that are old enough: few at a time, so that each transaction is short and space is reused."""

from __future__ import annotations

from datetime import timedelta

from vm_webapp.db.pool import execute, row, transaction

BATCH = 50


def purge_batch(older_than: timedelta, *, limit: int = BATCH) -> int:
    """Delete up to ``limit`` runs that finished longer ago than this, with their documents and timelines.

    A run that has an unfinished fork stays, so that nothing in flight is touched; so does one that somebody is just
    putting back to work.

    Returns:
        How many were deleted; fewer than ``limit`` when no more are left.
    """
    with transaction(durable=False):
        return execute(
            """
            WITH old AS MATERIALIZED (
                SELECT r.id FROM runs r
                 WHERE r.finished_at < now() - %(age)s
                   AND NOT EXISTS (SELECT 1 FROM runs fork WHERE fork.parent_run_id = r.id AND fork.finished_at IS NULL)
                 ORDER BY r.finished_at LIMIT %(limit)s
                   FOR UPDATE SKIP LOCKED)
            DELETE FROM runs USING old WHERE runs.id = old.id
            """,
            age=older_than,
            limit=limit,
        )


def count_purgeable(older_than: timedelta) -> int:
    """Return how many runs finished longer ago than this."""
    with transaction(durable=False):
        counted = row("SELECT count(*) AS n FROM runs WHERE finished_at < now() - %(age)s", age=older_than)
    assert counted is not None
    return int(counted["n"])


def purge_all(older_than: timedelta) -> int:
    """Delete every such run, batch by batch; return how many were deleted."""
    deleted = 0
    while batch := purge_batch(older_than):
        deleted += batch
    return deleted
