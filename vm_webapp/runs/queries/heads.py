"""Where many runs stand, for those who follow them."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from vm_webapp.db.pool import rows
from vm_webapp.runs.queries.reading import read_only
from vm_webapp.runs.records import RunHead


@read_only
def run_heads(run_ids: Collection[UUID]) -> dict[UUID, RunHead]:
    """Return where each run that exists stands, for any number of runs at once."""
    found = rows(
        """
        SELECT r.id, r.status, newest.id AS event_id
          FROM unnest(%(run_ids)s::uuid[]) AS wanted(id)
          JOIN runs r ON r.id = wanted.id,
               LATERAL (SELECT id FROM events WHERE events.run_id = wanted.id ORDER BY id DESC LIMIT 1) newest
        """,
        run_ids=list(run_ids),
    )
    return {each["id"]: RunHead(each["event_id"], each["status"]) for each in found}
