"""Probes."""

from __future__ import annotations

from aiohttp import web

from api.auth.actors import showed_credentials
from api.operations.operation import Answer, operation
from api.schemas.health import LiveOut, ReadyOut
from api.services import services
from vm_webapp.errors import Unavailable
from vm_webapp.ops.health import unanswered


@operation("GET", "/health/live", summary="Whether the process answers; depends on nothing else", public=True)
async def live(request: web.Request) -> Answer[LiveOut]:
    """Answer."""
    return Answer(LiveOut())


@operation(
    "GET",
    "/health/ready",
    summary="Whether work can progress, and if not, why and what to do",
    also=(503,),
    public=True,
)
async def ready(request: web.Request) -> Answer[ReadyOut]:
    """Tell the latest verdict, or check every dependency. Details that name machines are for those who may see them."""
    own = services(request)
    try:
        health = own.health.latest()
        if health is None:
            health = await own.health_threads.run(own.health.check)
    except Unavailable:
        health = unanswered()
    private = showed_credentials(request)
    told = {"build": own.settings.build} if private else {}
    body = ReadyOut.model_validate(health.body(private=private) | told)
    return Answer(body, status=200 if health.ready else 503)
