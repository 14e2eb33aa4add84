"""Queries for a run's timeline."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from peewee import fn

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Event
from vm_webapp.db.paging import Page, page_of
from vm_webapp.db.pool import row, rows
from vm_webapp.db.prepared import prepared
from vm_webapp.runs.queries.reading import no_run, read_only, require_run
from vm_webapp.runs.records import EventRecord

_EVENTS = Event.select(Event.id, Event.run, Event.stage, Event.type, Event.actor, Event.data, Event.created_at).where(
    Event.run == param("run_id")
)
# By the index on run_id: a run has few events. "id > after" never misses an event, because ids within a run are in the
# order of commits; across runs they are not, so there is no position over several runs.
#
# A position that is not an event of the run counts as 0. Its event was undone after the reader had seen it: by a crash
# of PostgreSQL, by a failover to a standby that had not received it, or by a restored backup. New events may have got
# lower ids since, or the same one and another time, and the reader must not miss them.
_SEEN = Event.alias("seen")
_SEEN_AT = param("seen_at").cast("timestamptz")
_POSITION = fn.coalesce(
    _SEEN.select(_SEEN.id).where(
        _SEEN.run == param("run_id"),
        _SEEN.id == param("after"),
        _SEEN_AT.is_null() | (_SEEN.created_at == _SEEN_AT),
    ),
    0,
)
_LIST = prepared(_EVENTS.where(Event.id > _POSITION).order_by(Event.id).limit(param("limit")))
_FIND = prepared(_EVENTS.where(Event.id == param("id")))
_NEWEST = prepared(_EVENTS.order_by(Event.id.desc()).limit(1))

_REMARKS = prepared(
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
def list_events(run_id: UUID, *, after: int, limit: int, seen_at: datetime | None = None) -> list[EventRecord]:
    """Return the run's events after one that the caller has seen, oldest first.

    Args:
        run_id: the run.
        after: the id of that event, 0 for none. If the run has no such event, as after a crash of PostgreSQL that undid
            it, the events are returned from the first on.
        limit: most events.
        seen_at: the time of that event, None if the caller does not know it.

    Raises:
        NotFound: there is no such run.
    """
    found = rows(_LIST, run_id=run_id, after=after, limit=limit, seen_at=seen_at)
    events = [EventRecord(**each) for each in found]
    if not events:
        require_run(run_id)
    return events


def page_of_events(run_id: UUID, *, after: int, limit: int) -> Page[EventRecord]:
    """Return one page of the run's timeline, oldest first.

    Args:
        run_id: the run.
        after: the id of the last event of the page before, 0 for the first page; see ``list_events``.
        limit: most events of the page.

    Raises:
        NotFound: there is no such run.
    """
    found = list_events(run_id, after=after, limit=limit + 1)
    return page_of(found, limit, lambda event: event.id)


@read_only
def find_event(run_id: UUID, id: int) -> EventRecord | None:
    """Return the run's event with this id, None if it has no such event."""
    found = row(_FIND, run_id=run_id, id=id)
    return EventRecord(**found) if found else None


@read_only
def newest_event(run_id: UUID) -> EventRecord:
    """Return the run's newest event; each run has one from its creation on.

    Raises:
        NotFound: there is no such run.
    """
    found = row(_NEWEST, run_id=run_id)
    if found is None:
        raise no_run(run_id)
    return EventRecord(**found)
