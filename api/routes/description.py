"""The route of the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from api.operations.operation import operation

DESCRIPTION: web.AppKey[Callable[[], str]] = web.AppKey("description")


@operation("GET", "/openapi.json", role="viewer", summary="This document: OpenAPI 3.1", tag="docs")
async def read_description(request: web.Request) -> web.Response:
    """Return the document, which is generated from all routes."""
    # Not imported: the table of routes, of which it is made, imports this module.
    text = await asyncio.to_thread(request.app[DESCRIPTION])
    return web.Response(text=text, content_type="application/json")
