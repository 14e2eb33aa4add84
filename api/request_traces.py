"""A span for each request, by OpenTelemetry's conventions for HTTP servers; only where traces are recorded.

Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server
"""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from api.http.problems import Handler
from api.http.request_ids import request_id
from api.http.request_metrics import CLIENT_LEFT, canonical_route
from api.http.shown_paths import shown_path
from api.request_log import SENT, WATCHING
from vm_webapp.tracing.spans import Kind, Span, Tracer, make_current

OTHER_METHOD = "_OTHER"  # as the conventions write a method that a caller has made up


def traced(tracer: Tracer) -> Middleware:
    """Return the outermost middleware, which makes a span of each request but probes and scrapes."""

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = canonical_route(request)
        if route is not None and route.startswith(WATCHING):
            return await handler(request)
        method = request.method if request.method in hdrs.METH_ALL else "HTTP"
        span = tracer.begin(f"{method} {route}" if route else method, Kind.SERVER, {})
        # aiohttp handles each request in a task of its own, which also writes the response.
        make_current(span)
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: _end(span, request, route))
        return await handler(request)

    return trace


def _end(span: Span, request: web.Request, route: str | None) -> None:
    status = request[SENT].status if SENT in request else CLIENT_LEFT
    span.attributes |= {
        "http.request.method": request.method if request.method in hdrs.METH_ALL else OTHER_METHOD,
        "url.path": shown_path(request.rel_url.raw_path, status, route),
        "url.scheme": request.scheme,
        "http.response.status_code": status,
        "vm.request_id": request_id(request),
    }
    if route is not None:
        span.attributes["http.route"] = route
    if status >= 500:
        span.error = str(status)
    span.end()
