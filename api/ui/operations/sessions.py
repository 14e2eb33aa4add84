"""The page of all sessions in browsers, for admins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.http.cursors import Cursor
from api.http.problems import RequestError
from api.services import services
from api.ui.forms import read_known_fields
from api.ui.places import SESSIONS, see_other
from api.ui.rendering import site_page
from api.ui.sent_once import ONCE
from vm_webapp.access.sessions import list_sessions

LISTED = 50


async def show_sessions(request: web.Request) -> web.Response:
    """Show who is signed in, and where."""
    require(request, "admin")
    own, actor = services(request), request[ACTOR]
    after = Cursor.position(request.query.get("cursor"))

    def read() -> Mapping[str, Any]:
        found = list_sessions(actor, own.sessions.rules, everybody=True, limit=LISTED, after=after)
        position = found.next_position
        assert position is None or isinstance(position, tuple)
        return {"sessions": found.items, "next": Cursor.of(position)}

    return await site_page(request, "sessions.html", read, actor=actor)


async def end_other_session(request: web.Request) -> web.Response:
    """End a session, whoever's it is."""
    require(request, "admin")
    await read_known_fields(request, {ONCE})
    try:
        id = UUID(request.match_info["id"])
    except ValueError:
        raise RequestError(404, "not_found", "there is no such session") from None
    await services(request).sessions.end(id, actor=request[ACTOR])
    return see_other(SESSIONS)
