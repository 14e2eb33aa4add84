"""A run's whole timeline at once, for a page that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from peewee import SQL

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Event
from vm_webapp.db.pool import rows
from vm_webapp.db.prepared import prepared
from vm_webapp.runs.queries.reading import read_only, require_run
from vm_webapp.runs.records import EventRecord


@dataclass(frozen=True, slots=True)
class History:
    """The newest events of a run.

    Attributes:
        events: oldest first. The text of a failed call (``partial_text``), which may weigh more than all else, is
            replaced by True.
        is_cut: whether the run has older ones.
    """

    events: tuple[EventRecord, ...]
    is_cut: bool


_NEWEST = prepared(
    Event.select(
        *(Event.id, Event.run, Event.stage, Event.type, Event.actor),
        SQL("""CASE WHEN data ->> 'partial_text' <> '' THEN data || '{"partial_text": true}' ELSE data END AS data"""),
        Event.created_at,
    )
    .where(Event.run == param("run_id"))
    .order_by(Event.id.desc())
    .limit(param("limit"))
)


@read_only
def read_history(run_id: UUID, *, limit: int) -> History:
    """Return the newest events of a run.

    Args:
        run_id: the run.
        limit: most events.

    Raises:
        NotFound: there is no such run.
    """
    found = [EventRecord(**each) for each in rows(_NEWEST, run_id=run_id, limit=limit + 1)]
    if not found:
        require_run(run_id)
    return History(tuple(reversed(found[:limit])), is_cut=len(found) > limit)
