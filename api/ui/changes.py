"""The stream that tells an open page to read itself again."""

from __future__ import annotations

from aiohttp import web

from api.auth.actors import ACTOR
from api.services import services
from api.streams.change_stream import stream_changes


async def follow_changes(request: web.Request) -> web.StreamResponse:
    """Stream hints until the client leaves."""
    own = services(request)
    with own.open_streams.hold(request[ACTOR]) as held:
        return await stream_changes(request, changes=own.changes, held=held)
