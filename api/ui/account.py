"""The page of the own account: who is signed in, in which browsers, and how to sign out."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR
from api.http.problems import RequestError
from api.services import services
from api.ui.places import ACCOUNT, SIGN_IN, see_other
from api.ui.rendering import site_page
from vm_webapp.access.sessions import list_sessions

MOST_SHOWN = 200


async def show_account(request: web.Request) -> web.Response:
    """Show the account."""
    own, actor = services(request), request[ACTOR]

    def read() -> dict[str, Any]:
        found = list_sessions(actor, own.sessions.rules, everybody=False, limit=MOST_SHOWN, after=None)
        return {"sessions": found.items, "more": found.next_position is not None}

    return await site_page(request, "account.html", read, actor=actor)


async def end_session(request: web.Request) -> web.Response:
    """End one of the own sessions."""
    try:
        id = UUID(request.match_info["id"])
    except ValueError:
        raise RequestError(404, "not_found", "there is no such session") from None
    await services(request).sessions.end(id, actor=request[ACTOR])
    return see_other(ACCOUNT)


async def sign_out(request: web.Request) -> web.Response:
    """End the session of this browser."""
    own, actor = services(request).sessions, request[ACTOR]
    if actor.session_id is not None:
        await own.end(actor.session_id, actor=actor)
    return _signed_out(request)


async def sign_out_everywhere(request: web.Request) -> web.Response:
    """End every session of this person."""
    await services(request).sessions.end_own(request[ACTOR])
    return _signed_out(request)


def _signed_out(request: web.Request) -> web.Response:
    response = see_other(SIGN_IN)
    services(request).sessions.cookie(request).clear(response)
    response.headers["Clear-Site-Data"] = '"storage"'  # what the script has kept of unsent forms
    return response
