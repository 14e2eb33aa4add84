"""Queries for a run's timeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from vm_webapp.db.compiled import compiled, param
from vm_webapp.db.models import Event
from vm_webapp.db.paging import Page, page_of
from vm_webapp.db.pool import row, rows
from vm_webapp.errors import NotFound
from vm_webapp.runs.queries.reading import read_only, require_run
from vm_webapp.runs.records import EventRecord

_EVENTS = Event.select(Event.id, Event.run, Event.stage, Event.type, Event.actor, Event.data, Event.created_at).where(
    Event.run == param("run_id")
)
# By the index on (run_id, id). "id > after" never misses an event, because ids within a run are in the order of
# commits; across runs they are not, so there is no position over several runs.
_LIST = compiled(_EVENTS.where(Event.id > param("after")).order_by(Event.id).limit(param("limit")))
_NEWEST = compiled(_EVENTS.order_by(Event.id.desc()).limit(1))

_REMARKS = compiled(
    Event.select(Event.stage, Event.data)
    .where(
        Event.run == param("run_id"),
        Event.type.in_(("changes.requested", "approval.granted")) | Event.data["remarks"].is_null(False),
    )
    .order_by(Event.id)
)


@read_only
def read_remarks(run_id: UUID) -> tuple[tuple[str, str], ...]:
    """Return what reviewers said of the run's drafts, oldest first: pairs of stage key and text.

    Those of the stages that a fork took over come first; ``fork_run`` puts them into the events of these stages.
    """
    return tuple((found["stage"], text) for found in rows(_REMARKS, run_id=run_id) for text in _texts(found["data"]))


def _texts(data: Mapping[str, Any]) -> list[str]:
    texts = [data.get("feedback"), data.get("note"), *data.get("remarks", ())]
    return [text for text in texts if text]


@read_only
def list_events(run_id: UUID, *, after: int, limit: int) -> list[EventRecord]:
    """Return the run's events with ids above ``after``, oldest first.

    Raises:
        NotFound: there is no such run.
    """
    events = [EventRecord(**found) for found in rows(_LIST, run_id=run_id, after=after, limit=limit)]
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
    return page_of(found, limit, lambda event: event.id)


@read_only
def newest_event(run_id: UUID) -> EventRecord:
    """Return the run's newest event; each run has one from its creation on.

    Raises:
        NotFound: there is no such run.
    """
    found = row(_NEWEST, run_id=run_id)
    if found is None:
        raise NotFound(f"there is no run {run_id}")
    return EventRecord(**found)
