"""Notes refused attempts for the audit trail, without delaying their answers."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.auth.actors import ACTOR
from api.http.addresses import client_address
from api.http.problems import Handler, RequestError
from api.http.request_ids import request_id
from vm_webapp.access.audit.refusals import Refusal, RefusalLog
from vm_webapp.errors import VMError

REFUSED = frozenset({401, 403})
REFUSALS = web.AppKey("refusals", RefusalLog)


def noting_refusals(guard: Middleware) -> Middleware:
    """Return a guard that notes each attempt that it, or what it guards, refuses."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await guard(request, handler)
        except VMError as error:
            # A known caller that sends too much has proved who it is; one that is not known tries keys.
            if error.http_status in REFUSED or (error.http_status == 429 and ACTOR not in request):
                note_refusal(request, error.reason if isinstance(error, RequestError) else error.code)
            raise

    return check


def note_refusal(request: web.Request, reason: str) -> None:
    """Note a refused attempt; takes microseconds.

    Args:
        request: the request. Neither its path nor its headers are kept, which may hold a secret.
        reason: why, as the code of a problem: few different ones.
    """
    refusal = Refusal(reason, client_address(request) or "unknown", _operation(request), request_id=request_id(request))
    actor = request.get(ACTOR)
    if actor is not None:
        refusal = replace(refusal, actor=actor.name, actor_id=actor.id, role=actor.role)
    request.config_dict[REFUSALS].note(refusal)


def _operation(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    return None if resource is None else f"{request.method} {resource.canonical}"
