"""What can be read of a run's timeline."""

from __future__ import annotations

from uuid import UUID

from vm_webapp.db.models import Event
from vm_webapp.db.paging import Page
from vm_webapp.errors import NotFound
from vm_webapp.runs.queries.reading import read_only, require_run
from vm_webapp.runs.records import EventRecord


@read_only
def list_events(run_id: UUID, *, after: int, limit: int) -> list[EventRecord]:
    """Return the run's events with ids above ``after``, oldest first.

    Raises:
        NotFound: there is no such run.
    """
    query = Event.select().where(Event.run == run_id, Event.id > after).order_by(Event.id).limit(limit)
    events = [
        EventRecord(event.id, run_id, event.stage, event.type, event.actor, event.data, event.created_at)
        for event in query
    ]
    if not events:
        require_run(run_id)
    return events


def page_of_events(run_id: UUID, *, after: int, limit: int) -> Page[EventRecord]:
    """Return one page of the run's timeline, oldest first.

    Args:
        run_id: the run.
        after: the id of the last event of the page before, 0 for the first page.
        limit: most events of the page.

    Raises:
        NotFound: there is no such run.
    """
    found = list_events(run_id, after=after, limit=limit + 1)
    page = tuple(found[:limit])
    return Page(page, page[-1].id if len(found) > limit else None)


@read_only
def newest_event(run_id: UUID) -> EventRecord:
    """Return the run's newest event; each run has one from its creation on.

    Raises:
        NotFound: there is no such run.
    """
    event = Event.select().where(Event.run == run_id).order_by(Event.id.desc()).first()
    if event is None:
        raise NotFound(f"there is no run {run_id}")
    return EventRecord(event.id, run_id, event.stage, event.type, event.actor, event.data, event.created_at)
