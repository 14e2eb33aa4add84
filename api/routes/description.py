"""The route of the OpenAPI document."""

from __future__ import annotations

from aiohttp import web

from api.operations.operation import operation

DESCRIPTION = web.AppKey("description", str)


@operation("GET", "/openapi.json", role="viewer", summary="This document: OpenAPI 3.1", tag="docs")
async def read_description(request: web.Request) -> web.Response:
    """Return the document, which ``api.app`` generates once, from all routes."""
    # A route cannot generate it: the table of routes imports this module.
    return web.Response(text=request.app[DESCRIPTION], content_type="application/json")
