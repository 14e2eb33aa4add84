"""The hints of ``Changes`` as server-sent events: ``change`` says that a page should read itself again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from uuid import UUID

from aiohttp import web

from api.streams.changes import Changes
from api.streams.event_stream import HEADERS, HEARTBEAT_SECONDS, WRITE_SECONDS, abort, progress_event
from api.streams.followers import Followers
from api.streams.open_streams import Held
from api.streams.readers import Notices
from vm_webapp.metrics import OPEN_STREAMS

CHANGE = b"event: change\ndata:\n\n"
HEARTBEAT = b": still here\n\n"


async def stream_changes(
    request: web.Request, *, changes: Changes, held: Held, followers: Followers, run_id: UUID | None
) -> web.StreamResponse:
    """Stream a hint at once, because something may have changed since the page was read, and one after each change.

    Args:
        request: the request.
        changes: wakes this stream.
        held: ends the stream when the caller's key is no longer in force.
        followers: brings what a run's model writes.
        run_id: the run whose text is streamed as well, as ``stage.progress``; None for no run.
    """
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(changes.follow())
        if run_id is not None:
            await stack.enter_async_context(followers.follow(run_id, Notices(reader)))
        held.on_end(reader, partial(abort, request))
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        with OPEN_STREAMS.track_inprogress():
            try:
                await _write(response, CHANGE)
                while not reader.closed:
                    await reader.wait(HEARTBEAT_SECONDS)
                    notices = [progress_event(notice) for notice in reader.take_notices()]
                    changed = reader.take_change()
                    if not reader.closed:
                        await _write(response, b"".join([*notices, CHANGE if changed else b""]) or HEARTBEAT)
                await response.write_eof()
            except (TimeoutError, ConnectionError):
                abort(request)  # the client has left, or does not read
        return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(data)
