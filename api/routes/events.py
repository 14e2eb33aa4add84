"""A run's timeline."""

from __future__ import annotations

from aiohttp import web

from api.schemas import EventOut, EventsOut, EventsQuery, RunPath
from api.services import services
from api.typed import Answer, operation
from vm_webapp.runs import queries


@operation("GET", "/runs/{run_id}/events", summary="The run's timeline, oldest first", errors=(404,))
async def list_events(request: web.Request, path: RunPath, query: EventsQuery) -> Answer[EventsOut]:
    """List the events after a position."""
    events = await services(request).threads.run(
        lambda: queries.list_events(path.run_id, after=query.after, limit=query.limit)
    )
    more = len(events) == query.limit
    items = [EventOut.model_validate(event) for event in events]
    return Answer(EventsOut(items=items, next_cursor=str(events[-1].id) if more else None))
