"""The heads of many runs (status and newest event), and the pages of a timeline."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import pytest

from tests.support.runs import create
from vm_webapp.access.actor import Actor
from vm_webapp.errors import NotFound
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.records import RunHead


def newest(run_id: UUID) -> tuple[int, datetime]:
    """Return the id and the time of the run's newest event."""
    event = queries.newest_event(run_id)
    return event.id, event.created_at


def test_heads_contain_each_run_that_exists(database: str) -> None:
    queued, canceled = create().run.id, create().run.id
    lifecycle.cancel_run_if_open(canceled, actor=Actor("ann"))
    assert queries.run_heads([queued, canceled, uuid4()]) == {
        queued: RunHead(*newest(queued), "queued"),
        canceled: RunHead(*newest(canceled), "canceled"),
    }
    assert queries.run_heads([]) == {}


def test_pages_of_a_timeline_end_where_the_timeline_ends(database: str) -> None:
    run_id = create().run.id
    lifecycle.cancel_run_if_open(run_id, actor=Actor("ann"))
    everything = tuple(queries.list_events(run_id, after=0, limit=200))
    first = queries.page_of_events(run_id, after=0, limit=2)
    assert (first.items, first.next_position) == (everything[:2], everything[1].id)
    last = queries.page_of_events(run_id, after=everything[1].id, limit=len(everything) - 2)
    assert (last.items, last.next_position) == (everything[2:], None)
    with pytest.raises(NotFound):
        queries.page_of_events(uuid4(), after=0, limit=2)
