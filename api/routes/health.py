"""Probes."""

from __future__ import annotations

from aiohttp import web

from api.schemas import LiveOut
from api.services import services
from api.typed import Answer, operation


@operation("GET", "/health/live", summary="Whether the process answers; depends on nothing else")
async def live(request: web.Request) -> Answer[LiveOut]:
    """Answer."""
    return Answer(LiveOut())


@operation("GET", "/health/ready", summary="Whether work can progress, and if not, why and what to do")
async def ready(request: web.Request) -> web.Response:
    """Check every dependency. Details that name machines are for callers who may see them."""
    own = services(request)
    health = await own.health_threads.run(own.health.check)
    body = health.body(private=request["actor"] is not None)
    return web.json_response(body, status=200 if health.ready else 503)
