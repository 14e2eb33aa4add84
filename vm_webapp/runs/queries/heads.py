"""The status and the newest event of many runs at once, for the clients that follow them."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from peewee import JOIN, SQL, fn

from vm_webapp.db.compiled import compiled, param
from vm_webapp.db.models import Event, Run
from vm_webapp.db.pool import rows
from vm_webapp.runs.queries.reading import read_only
from vm_webapp.runs.records import RunHead

# The newest event of each run by the index on run_id, for one run after the other: a GROUP BY may read the whole table.
_NEWEST = (
    Event.select(Event.id, Event.created_at)
    .where(Event.run == Run.id)
    .order_by(Event.id.desc())
    .limit(1)
    .alias("newest")
)
_HEADS = compiled(
    Run.select(Run.id, Run.status, _NEWEST.c.id.alias("event_id"), _NEWEST.c.created_at.alias("event_at"))
    .join(_NEWEST, JOIN.LATERAL, on=SQL("true"))
    .where(Run.id == fn.ANY(param("run_ids").cast("uuid[]")))
)


@read_only
def run_heads(run_ids: Collection[UUID]) -> dict[UUID, RunHead]:
    """Return the status and the newest event of each run that exists, for any number of runs at once."""
    heads = rows(_HEADS, run_ids=list(run_ids))
    return {head.pop("id"): RunHead(**head) for head in heads}
