"""Whether anything has changed that a page of many runs shows."""

from __future__ import annotations

from dataclasses import dataclass

from vm_webapp.db.pool import row
from vm_webapp.db.prepared import Prepared
from vm_webapp.runs.queries.reading import read_only

# Ids of events follow the order of inserts, but transactions do not commit in it: the highest id would hide an event
# that commits after a later one. With any new id, the sum of the highest grows.
# A row's xmin is the transaction that wrote it, so that a pause that ends between two looks is seen as well.
_LOOK = Prepared(
    """
    SELECT (SELECT sum(id)::text FROM (SELECT id FROM events ORDER BY id DESC LIMIT 1000) AS newest) AS events,
           (SELECT string_agg(xmin::text, ',' ORDER BY name) FROM queues) AS queues,
           (SELECT string_agg(xmin::text, ',' ORDER BY name) FROM providers) AS providers
    """
)


@dataclass(frozen=True, slots=True)
class Mark:
    """Differs from every earlier one if a run, a queue or a provider has changed since. Marks have no order.

    Attributes:
        events: of the newest events of all runs; None if there are none.
        queues: of the queues, with their pauses; None if there are none.
        providers: of the providers, with their failures and pauses; None if there are none.
    """

    events: str | None
    queues: str | None
    providers: str | None


@read_only
def read_mark() -> Mark:
    """Return the mark of this moment, by one statement."""
    found = row(_LOOK)
    assert found is not None
    return Mark(**found)
