"""The caller, whom a sub-application's middleware puts on the request."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from api.http.addresses import client_address
from api.http.problems import RequestError
from api.http.request_ids import request_id
from vm_webapp.access.actor import Actor
from vm_webapp.access.roles import Role, includes
from vm_webapp.tracing.spans import current_span
from vm_webapp.tracing.trace_context import parse_traceparent

ACTOR = web.RequestKey("actor", Actor)
LOCAL = Actor("local")  # any caller of an open local API


def is_authenticated(request: web.Request) -> bool:
    """Return whether the caller presented a valid token or key; a caller of an open local API did not."""
    actor = request.get(ACTOR)
    return actor is not None and actor.id is not None


def admit(request: web.Request, actor: Actor) -> None:
    """Note who sends the request, with its address and its id, and continue the caller's trace."""
    # Of those only whom the guard admits: anybody else could make us record, or write into the traces of others.
    if (span := current_span()) is not None:
        span.adopt(parse_traceparent(request.headers.get("traceparent")))
    request[ACTOR] = replace(actor, address=client_address(request), request_id=request_id(request))


def require(request: web.Request, role: Role) -> None:
    """Check that the caller has a role, or one that includes it.

    Raises:
        RequestError: 403; the caller's role does not include it.
    """
    actor = request[ACTOR]
    if not includes(actor.role, role):
        raise RequestError(403, "forbidden", f"this needs the role {role}; the key has the role {actor.role}")
