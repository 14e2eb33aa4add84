"""A line in the log for each request, when its response or its stream has ended.

A line has neither the query, which may hold what a person typed, nor a header. A request that reaches no route, such as
one that is malformed, has a ``kind`` instead of its method and path.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from api.auth.actors import ACTOR
from api.http.addresses import client_address
from api.http.connections import KIND
from api.http.problems import Handler
from api.http.request_ids import request_id
from api.http.request_metrics import CLIENT_LEFT, canonical_route
from api.http.shown_paths import shown_path
from api.operations.operation import PREFIX
from vm_webapp.logs import log_with

log = logging.getLogger("api.requests")

WATCHING = (f"{PREFIX}/health/", "/metrics")  # where routes begin whose clients ask every few seconds
UNPARSED = "UNKNOWN"  # the method that aiohttp gives a request that it could not parse
ROUTE = web.RequestKey("route", str)
SENT = web.RequestKey("sent", web.StreamResponse)


class RequestLog(AbstractAccessLogger):
    """Logs the requests that get their whole response; aiohttp creates it for each connection."""

    @property
    def enabled(self) -> bool:
        """Whether lines of this level are shown."""
        return log.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log a request; ``time`` is in seconds."""
        _log(request, response.status, time)


@web.middleware
async def log_departures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note the request's route, and log the request if its client leaves before the end, which aiohttp does not."""
    log_with(request_id=request_id(request))
    route = canonical_route(request)
    if route is not None:
        request[ROUTE] = route
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    began = loop.time()

    def note(ended: asyncio.Task[object]) -> None:
        if ended.cancelled():
            # A stream has sent its status; its client leaves in the end, as a rule.
            status = request[SENT].status if SENT in request else CLIENT_LEFT
            _log(request, status, loop.time() - began)

    # Not an except clause: the response is written, and may be cut off, after this function has returned. aiohttp
    # handles each request in a task of its own.
    assert task is not None
    task.add_done_callback(note)
    return await handler(request)


async def note_sent(request: web.Request, response: web.StreamResponse) -> None:
    """Note that a response's status has been sent; connected to ``on_response_prepare``."""
    request[SENT] = response


def _log(request: web.BaseRequest, status: int, seconds: float) -> None:
    route = request.get(ROUTE)
    if route is not None and route.startswith(WATCHING) and status < 400:
        return
    parsed = request.method != UNPARSED
    log.info(
        "request.done",
        extra={
            "method": request.method if parsed else None,
            "route": route,
            "path": shown_path(request.rel_url.raw_path, status, route) if parsed else None,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "bytes": request.writer.output_size,
            "actor": actor.name if (actor := request.get(ACTOR)) else None,
            "address": client_address(request),
            "request_id": request_id(request) if isinstance(request, web.Request) else None,
        }
        | ({"kind": request[KIND]} if KIND in request else {}),
    )
