"""Who calls, as the middleware of a sub-application found out."""

from __future__ import annotations

from aiohttp import web

ACTOR = web.RequestKey("actor", str)
ADMIN, LOCAL = "admin", "local"


def showed_credentials(request: web.Request) -> bool:
    """Tell whether the caller proved who it is, rather than merely finding the door open."""
    return request.get(ACTOR) not in (None, LOCAL)
