"""The probes: liveness and readiness."""

from __future__ import annotations

from aiohttp import web

from api.auth.actors import is_authenticated
from api.operations.operation import JsonResponse, operation
from api.schemas.health import LiveOut, ReadyOut
from api.services import services
from vm_webapp.errors import Unavailable
from vm_webapp.ops.health import check_timed_out


@operation("GET", "/health/live", role=None, summary="Whether the process responds; depends on nothing else")
async def live(request: web.Request) -> JsonResponse[LiveOut]:
    """Respond at once, whatever else is down."""
    # No dependency is checked: a platform restarts what is not live, and no restart brings a database back.
    return JsonResponse(LiveOut())


@operation(
    "GET",
    "/health/ready",
    role=None,
    summary="Whether work can progress, and if not, why and what to do",
    also=(503,),
)
async def ready(request: web.Request) -> JsonResponse[ReadyOut]:
    """Return the latest verdict; check the dependencies if there is none. Only authenticated callers see hosts."""
    own = services(request)
    try:
        health = own.health.latest()
        if health is None:
            health = await own.health_threads.run(own.health.check)
    except Unavailable:
        # Reported as "not ready" rather than as a problem: probes and the smoke test read reasons in one place.
        health = check_timed_out()
    private = is_authenticated(request)
    build = {"build": own.settings.build} if private else {}
    body = ReadyOut.model_validate(health.body(private=private) | build)
    return JsonResponse(body, status=200 if health.ready else 503)
