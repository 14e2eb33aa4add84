"""Every request has an id, the caller's own where it sent a usable one; every answer carries it."""

from __future__ import annotations

import re
from uuid import uuid4

from aiohttp import web

HEADER = "X-Request-ID"
USABLE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id(request: web.Request) -> str:
    """Return the request's id, which is made or taken over at the first call."""
    if "request_id" not in request:
        given = request.headers.get(HEADER, "")
        request["request_id"] = given if USABLE.fullmatch(given) else uuid4().hex
    known: str = request["request_id"]
    return known


async def stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Put the id on an answer, whatever made it; connected to ``on_response_prepare``."""
    response.headers[HEADER] = request_id(request)
