"""A run's timeline."""

from __future__ import annotations

from aiohttp import web

from api.event_stream import stream_events, wants_stream
from api.schemas import EventOut, EventsOut, EventsQuery, RunPath
from api.services import services
from api.typed import Answer, operation
from vm_webapp.runs import queries


@operation("GET", "/runs/{run_id}/events", summary="The run's timeline, oldest first")
async def list_events(
    request: web.Request, path: RunPath, query: EventsQuery
) -> Answer[EventsOut] | web.StreamResponse:
    """List the events after a position, or stream them; one more than asked for tells whether there is a next page."""
    own = services(request)
    if wants_stream(request):
        return await stream_events(
            request, path.run_id, after=query.after, followers=own.followers, threads=own.threads
        )
    found = await own.threads.run(lambda: queries.list_events(path.run_id, after=query.after, limit=query.limit + 1))
    items = [EventOut.model_validate(event) for event in found[: query.limit]]
    more = len(found) > query.limit
    return Answer(EventsOut(items=items, next_cursor=str(items[-1].id) if more else None))
