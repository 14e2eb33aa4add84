"""What runs keep of workflow, brand and project: as the core stores it, and as the build before did."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.support.runs import read
from vm_webapp.db.pool import execute, jsonb, transaction
from vm_webapp.runs.snapshots import NewSnapshot, store

KEPT = """
    SELECT w.content AS workflow, b.content AS brand, p.content AS project
      FROM runs
      LEFT JOIN snapshots w ON w.digest = workflow_digest
      LEFT JOIN snapshots b ON b.digest = brand_digest
      LEFT JOIN snapshots p ON p.digest = project_digest
     WHERE runs.id = %(id)s
"""


def kept_by(run_id: UUID) -> dict[str, Any]:
    """Return ``workflow``, ``brand`` and ``project`` to which a run refers."""
    (found,) = read(KEPT, id=run_id)
    return found


def stored_snapshots() -> int:
    """Return how many snapshots are stored."""
    return int(read("SELECT count(*) AS n FROM snapshots")[0]["n"])


def keep_in_a_document(run_id: UUID) -> dict[str, Any]:
    """Store what a run keeps as the build before does; return it."""
    document = kept_by(run_id)
    with transaction():
        execute(
            "UPDATE runs SET snapshot = %(document)s, workflow_digest = NULL, brand_digest = NULL,"
            " project_digest = NULL WHERE id = %(id)s",
            id=run_id,
            document=jsonb(document),
        )
    return document


def replace_workflow(run_id: UUID, content: Any) -> None:
    """Make a run refer to something else as its workflow."""
    snapshot = NewSnapshot.of(content)
    with transaction():
        store([snapshot])
        execute("UPDATE runs SET workflow_digest = %(digest)s WHERE id = %(id)s", id=run_id, digest=snapshot.digest)
