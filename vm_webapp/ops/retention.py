"""Deletes old finished runs, few at a time, so that each transaction is short and PostgreSQL can reuse the space."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from peewee import fn

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import record
from vm_webapp.db.compiled import COUNT, compiled, delete_from, param
from vm_webapp.db.models import Run
from vm_webapp.db.pool import row, rows, transaction
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.ops.snapshot_purge import BATCH as SNAPSHOTS_BATCH
from vm_webapp.ops.snapshot_purge import purge_snapshots

BATCH = 50


# A run that has an unfinished fork stays: deleting it would set the fork's parent to NULL, and so write to a run that
# may be in flight.
_FORK = Run.alias("fork")
_UNFINISHED_FORK = _FORK.select(_FORK.id).where(_FORK.parent_run == Run.id, _FORK.finished_at.is_null())
_OLD = Run.select(Run.id).where(Run.finished_at < fn.now() - param("age"), ~fn.EXISTS(_UNFINISHED_FORK))
# Materialized, because PostgreSQL may run a subquery with LIMIT and SKIP LOCKED once per outer row, which would delete
# more than a batch. A locked run stays: the transaction that has locked it may be retrying it.
_BATCH = _OLD.order_by(Run.finished_at).limit(param("limit")).for_update(skip_locked=True).cte("old", materialized=True)
_DELETE = compiled(delete_from(Run).where(Run.id.in_(_BATCH.select(_BATCH.c.id))).with_cte(_BATCH).returning(Run.id))
_COUNT = compiled(_OLD.select(COUNT.alias("n")))


def purge_batch(older_than: timedelta, *, limit: int = BATCH, actor: Actor | None = None) -> list[UUID]:
    """Delete up to ``limit`` runs that finished longer ago than this, with their artifacts and timelines.

    A run that has an unfinished fork, or that another transaction has locked, stays.

    Args:
        older_than: the age.
        limit: most runs to delete.
        actor: the person who asks for it; None for a worker, which does what its settings say.

    Returns:
        The ids of the deleted runs; fewer than ``limit`` when no more are left.
    """
    # Not durable: a deletion that a crash undoes is repeated by the next purge.
    with transaction(durable=False):
        deleted = [each["id"] for each in rows(_DELETE, age=older_than, limit=limit)]
        if actor is not None and deleted:
            data = {"older_than_seconds": int(older_than.total_seconds()), "runs": [str(id) for id in deleted]}
            record(actor, "runs.purge", None, data=data)
    return deleted


def count_purgeable(older_than: timedelta) -> int:
    """Return how many runs ``purge_all`` would delete."""
    with transaction(durable=False):
        counted = row(_COUNT, age=older_than)
    assert counted is not None
    return int(counted["n"])


def purge_all(older_than: timedelta, mirror: ArtifactMirror | None = None, *, actor: Actor) -> int:
    """Delete every such run, batch by batch, and its copy in the mirror; return how many runs were deleted."""
    deleted = 0
    while batch := purge_batch(older_than, actor=actor):
        deleted += len(batch)
        if mirror:
            mirror.remove(batch)
    while purge_snapshots() == SNAPSHOTS_BATCH:
        pass
    return deleted
