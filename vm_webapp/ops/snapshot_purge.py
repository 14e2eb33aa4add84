"""Deletes snapshots to which no run refers any more."""

from __future__ import annotations

from peewee import SQL, fn

from vm_webapp.db.compiled import compiled, delete_from, param
from vm_webapp.db.models import Run, Snapshot
from vm_webapp.db.pool import execute, rows, transaction
from vm_webapp.runs.snapshots import DIGESTS, ONLY_SNAPSHOTS

BATCH = 100

_REFERENCES = tuple(
    fn.EXISTS(Run.select(SQL("1")).where(Run._meta.columns[column] == Snapshot.digest)) for column in DIGESTS
)
_UNUSED = [~each for each in _REFERENCES]
# Before migration 0023 nothing keeps a run from referring to what is deleted, and no index finds who refers to it.
_LOCK = compiled(
    Snapshot.select(Snapshot.digest)
    .where(SQL(ONLY_SNAPSHOTS), *_UNUSED)
    .limit(param("limit"))
    .for_update(skip_locked=True)
)
_DELETE = compiled(delete_from(Snapshot).where(Snapshot.digest == fn.ANY(param("digests").cast("bytea[]")), *_UNUSED))


def purge_snapshots(limit: int = BATCH) -> int:
    """Delete up to ``limit`` snapshots to which no run refers; return how many were found.

    One that another transaction has locked stays: it may be about to create a run that refers to it.

    Raises:
        DatabaseUnavailable: nothing was deleted.
    """
    with transaction(durable=False):
        found = [bytes(each["digest"]) for each in rows(_LOCK, limit=limit)]
        if found:
            # A statement of its own: it sees the runs that were created until these rows were locked.
            execute(_DELETE, digests=found)
    return len(found)
