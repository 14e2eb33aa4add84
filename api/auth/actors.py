"""The identity of the caller, which a sub-application's middleware puts on the request."""

from __future__ import annotations

from aiohttp import web

ACTOR = web.RequestKey("actor", str)
ADMIN, LOCAL = "admin", "local"


def is_authenticated(request: web.Request) -> bool:
    """Return whether the caller presented a valid token or key; a caller of an open local API did not."""
    return request.get(ACTOR) not in (None, LOCAL)
