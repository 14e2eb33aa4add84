"""Moves what runs of the build before have in a document of their own into the snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from vm_webapp.db.compiled import NO_KEY_UPDATE, compiled, param
from vm_webapp.db.models import Run
from vm_webapp.db.pool import Row, execute, rows, transaction
from vm_webapp.runs.snapshots import ONLY_SNAPSHOTS, NewSnapshot, store

BATCH = 100

_ONE = compiled(
    Run.select(Run.id, Run.snapshot)
    .where(Run.id == param("id"), Run.workflow_digest.is_null())
    .for_update(NO_KEY_UPDATE)
)
# The index is the last step of migration 0023: until then the build before has to find these documents, and after its
# rollback again. It contains what is left.
_BATCH = f"""
    SELECT id, snapshot FROM runs
     WHERE snapshot IS NOT NULL AND {ONLY_SNAPSHOTS}
     ORDER BY id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""
_REFER = """
    UPDATE runs SET workflow_digest = moved.workflow, brand_digest = moved.brand, project_digest = moved.project,
                    snapshot = NULL
      FROM unnest(%(ids)s::uuid[], %(workflow)s::bytea[], %(brand)s::bytea[], %(project)s::bytea[])
           AS moved(id, workflow, brand, project)
     WHERE runs.id = moved.id
"""


def move_batch(limit: int = BATCH) -> int:
    """Make up to ``limit`` runs refer to snapshots that have a document of their own; return how many it were.

    Runs that another transaction has locked stay for a later batch. Nothing is moved before migration 0023.

    Raises:
        DatabaseUnavailable: nothing was moved.
    """
    # Not durable: what a crash undoes is moved again.
    with transaction(durable=False):
        runs = rows(_BATCH, limit=limit)
        move(runs)
    return len(runs)


def move_snapshot(run_id: UUID) -> None:
    """Make a run refer to snapshots if it does not yet, inside the current transaction."""
    move(rows(_ONE, id=run_id))


def move(runs: Sequence[Row]) -> None:
    """Make runs refer to snapshots, inside the transaction that has locked them.

    Where the build before is still served, a trigger writes their documents again.

    Args:
        runs: ``id`` and ``snapshot`` of each.
    """
    if not runs:
        return
    parts: dict[str, list[NewSnapshot | None]] = {"workflow": [], "brand": [], "project": []}
    for run in runs:
        for name, found in parts.items():
            content = run["snapshot"].get(name)
            # A document without a workflow cannot be read; it stays so.
            found.append(None if content is None and name != "workflow" else NewSnapshot.of(content))
    store(each for found in parts.values() for each in found if each)
    digests = {name: [each.digest if each else None for each in found] for name, found in parts.items()}
    execute(_REFER, ids=[run["id"] for run in runs], **digests)
