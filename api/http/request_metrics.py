"""Counts requests by route and status, and how long they take."""

from __future__ import annotations

import asyncio
import time

from aiohttp import hdrs, web

from api.http.problems import Handler
from vm_webapp.metrics import HTTP_REQUEST_SECONDS, HTTP_REQUESTS, OTHER, labelled

UNMATCHED = "unmatched"
REFUSED = "refused"
CLIENT_LEFT = 499  # as nginx logs it
HELD = web.RequestKey("held", bool)
"""Set on a request that lasts for as long as its client likes: how long it took says nothing of this service."""


@web.middleware
async def count_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the request when its response is there, or its client has left."""
    began = time.perf_counter()
    status = 500
    try:
        response = await handler(request)
        if isinstance(response, web.StreamResponse):  # else the handler is wrong, which is said further out
            status = response.status
        return response
    except web.HTTPException as error:
        status = error.status
        raise
    except asyncio.CancelledError:
        status = CLIENT_LEFT  # also how most streams end
        raise
    finally:
        _count(request, status, time.perf_counter() - began)


def canonical_route(request: web.Request) -> str | None:
    """Return the request's route with its ``{fields}``, None if its path has no route."""
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


def count_refused(status: int) -> None:
    """Count a request that is refused before any route: it may be malformed, or there are too many connections."""
    labelled(HTTP_REQUESTS, OTHER, REFUSED, str(status)).inc()


def _count(request: web.Request, status: int, seconds: float) -> None:
    # Any word is a method, and any path may be asked for: only what this service knows becomes a label.
    method = request.method if request.method in hdrs.METH_ALL else OTHER
    route = canonical_route(request) or UNMATCHED
    labelled(HTTP_REQUESTS, method, route, str(status)).inc()
    if HELD not in request:
        labelled(HTTP_REQUEST_SECONDS, method, route).observe(seconds)
