"""Drafts that wait for a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from vm_webapp.db.paging import Page
from vm_webapp.db.pool import rows
from vm_webapp.runs.queries.reading import read_only


@dataclass(frozen=True, slots=True)
class Approval:
    """A draft that waits.

    Attributes:
        waiting_since: when the draft was written.
        brand: the brand's name as the run knows it, or None.
    """

    run_id: UUID
    workflow: str
    request: str
    brand_id: UUID | None
    brand: str | None
    project_id: UUID | None
    stage: str
    title: str
    version: int
    sha256: str
    size: int
    waiting_since: datetime
    age_seconds: int


@read_only
def list_approvals(*, limit: int, after: tuple[datetime, UUID] | None) -> Page[Approval]:
    """Return one page of the drafts that wait, oldest first.

    Args:
        limit: most drafts of the page.
        after: ``(waiting_since, run_id)`` of the last one of the page before, None for the first page.
    """
    found = rows(
        """
        SELECT r.id AS run_id, r.workflow, r.request, r.brand_id, r.snapshot->'brand'->>'name' AS brand, r.project_id,
               s.key AS stage, s.title, a.version, a.sha256, a.size, a.created_at AS waiting_since,
               extract(epoch FROM clock_timestamp() - a.created_at)::int AS age_seconds
          FROM stages s
          JOIN runs r ON r.id = s.run_id
          JOIN LATERAL (SELECT version, sha256, size, created_at FROM artifacts
                         WHERE stage_id = s.id ORDER BY version DESC LIMIT 1) a ON true
         WHERE s.status = 'waiting_approval'
           AND (%(at)s::timestamptz IS NULL OR (a.created_at, r.id) > (%(at)s, %(id)s))
         ORDER BY a.created_at, r.id
         LIMIT %(limit)s
        """,
        at=after[0] if after else None,
        id=after[1] if after else None,
        limit=limit + 1,
    )
    items = tuple(Approval(**each) for each in found[:limit])
    more = len(found) > limit
    return Page(items, (items[-1].waiting_since, items[-1].run_id) if more else None)
