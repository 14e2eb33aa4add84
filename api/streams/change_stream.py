"""The hints of ``Changes`` as server-sent events: ``change`` says that a page should read itself again."""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web

from api.streams.changes import Changes
from api.streams.event_stream import HEADERS, HEARTBEAT_SECONDS, WRITE_SECONDS, abort
from api.streams.open_streams import Held

CHANGE = b"event: change\ndata:\n\n"
HEARTBEAT = b": still here\n\n"


async def stream_changes(request: web.Request, *, changes: Changes, held: Held) -> web.StreamResponse:
    """Stream a hint at once, because something may have changed since the page was read, and one after each change.

    Args:
        request: the request.
        changes: wakes this stream.
        held: ends the stream when the caller's key is no longer in force.
    """
    async with changes.follow() as reader:
        held.on_end(reader, partial(abort, request))
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            await _write(response, CHANGE)
            while not reader.closed:
                await reader.wait(HEARTBEAT_SECONDS)
                if not reader.closed:
                    await _write(response, CHANGE if reader.take_change() else HEARTBEAT)
            await response.write_eof()
        except (TimeoutError, ConnectionError):
            abort(request)  # the client has left, or does not read
        return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(data)
