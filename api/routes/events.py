"""A run's timeline."""

from __future__ import annotations

from aiohttp import web

from api.operations.operation import Answer, operation
from api.schemas.events import EventOut, EventsOut, EventsQuery
from api.schemas.runs import RunPath
from api.services import services
from api.streams.event_stream import stream_events, wants_stream
from vm_webapp.runs import queries
from vm_webapp.runs.records import EventRecord


@operation("GET", "/runs/{run_id}/events", summary="The run's timeline, oldest first")
async def list_events(
    request: web.Request, path: RunPath, query: EventsQuery
) -> Answer[EventsOut] | web.StreamResponse:
    """List the events after a position, or stream them; one more than asked for tells whether there is a next page."""
    own = services(request)
    if wants_stream(request):
        return await stream_events(
            request, path.run_id, after=query.after, followers=own.followers, threads=own.threads, as_json=_as_json
        )
    found = await own.threads.run(lambda: queries.list_events(path.run_id, after=query.after, limit=query.limit + 1))
    items = [EventOut.model_validate(event) for event in found[: query.limit]]
    more = len(found) > query.limit
    return Answer(EventsOut(items=items, next_cursor=str(items[-1].id) if more else None))


def _as_json(event: EventRecord) -> str:
    return EventOut.model_validate(event).model_dump_json()
