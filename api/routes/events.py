"""The route of a run's timeline, as pages or as a stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from api.auth.actors import ACTOR
from api.http.request_metrics import HELD
from api.operations.call import Call
from api.operations.headers import LAST_EVENT_ID
from api.operations.pages import PageOut
from api.operations.query import Found, query
from api.schemas.events import STREAM, EventOut, EventsQuery
from api.schemas.runs import RunPath
from api.services import services
from api.streams.event_stream import stream_events, wants_stream
from vm_webapp.db.paging import Page
from vm_webapp.runs import queries
from vm_webapp.runs.records import EventRecord


async def _stream_if_wanted(
    request: web.Request, read: Callable[[], Awaitable[Found]], *, path: RunPath, query: EventsQuery
) -> Found | web.StreamResponse:
    """Stream the events if the caller asks for that."""
    if not wants_stream(request):
        return await read()
    own = services(request)
    request[HELD] = True
    with own.open_streams.hold(request[ACTOR]) as held:
        return await stream_events(
            request,
            path.run_id,
            after=query.after,
            followers=own.followers,
            threads=own.threads,
            as_json=_as_json,
            held=held,
        )


def _as_json(event: EventRecord) -> str:
    return EventOut.model_validate(event).model_dump_json()


@query(
    "/runs/{run_id}/events",
    PageOut[EventOut],
    role="viewer",
    summary="The run's timeline, oldest first",
    around=_stream_if_wanted,
    also=(204,),
    meanings={204: "For a stream: the run has ended, and the caller has its last event. There is nothing to wait for."},
    accepts=(LAST_EVENT_ID,),
    alternatives={"text/event-stream": STREAM},
)
def list_events(call: Call, path: RunPath, query: EventsQuery) -> Page[EventRecord]:
    """List a page of events after a position, or follow the run: with ``Accept: text/event-stream`` as a stream."""
    return queries.page_of_events(path.run_id, after=query.after, limit=query.limit)
