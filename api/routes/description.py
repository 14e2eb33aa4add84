"""The API's description of itself."""

from __future__ import annotations

from aiohttp import web

from api.operations.operation import operation

DESCRIPTION = web.AppKey("description", str)


@operation("GET", "/openapi.json", summary="This document: OpenAPI 3.1")
async def read_description(request: web.Request) -> web.Response:
    """Answer what ``api.app`` made of its routes at the start."""
    return web.Response(text=request.app[DESCRIPTION], content_type="application/json")
