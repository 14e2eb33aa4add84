"""Whether anything has changed that a page of many runs shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from peewee import Select, fn

from vm_webapp.db.compiled import COUNT
from vm_webapp.db.models import Event, Provider, Queue
from vm_webapp.db.pool import database, row
from vm_webapp.db.prepared import prepared
from vm_webapp.runs.queries.reading import read_only

# Each is one look into an index or into a table of a few rows.
_LOOK = prepared(
    Select(
        columns=[
            Event.select(fn.max(Event.id)).alias("event_id"),
            Queue.select(fn.max(Queue.paused_at)).alias("queue_paused_at"),
            Provider.select(fn.max(Provider.paused_at)).alias("provider_paused_at"),
            Provider.select(COUNT).where(Provider.paused_at.is_null(False)).alias("paused_providers"),
        ]
    ).bind(database)
)


@dataclass(frozen=True, slots=True)
class Mark:
    """Differs from an earlier one if a run, or a pause, has changed in between. It is no position: marks have no order.

    Attributes:
        event_id: the newest event of all runs, None if there is none.
        queue_paused_at: since when the queue has been paused, None if it is not.
        provider_paused_at: the newest pause of a provider, None if none is paused.
        paused_providers: how many are paused.
    """

    event_id: int | None
    queue_paused_at: datetime | None
    provider_paused_at: datetime | None
    paused_providers: int


@read_only
def read_mark() -> Mark:
    """Return the mark of this moment, by one statement."""
    found = row(_LOOK)
    assert found is not None
    return Mark(**found)
