"""Every request has an id, the caller's own where it sent a usable one; every answer carries it."""

from __future__ import annotations

import re
from uuid import uuid4

from aiohttp import web

HEADER = "X-Request-ID"
KEY = web.RequestKey("request_id", str)
USABLE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id(request: web.Request) -> str:
    """Return the request's id, which is made or taken over at the first call."""
    if KEY not in request:
        given = request.headers.get(HEADER, "")
        request[KEY] = given if USABLE.fullmatch(given) else uuid4().hex
    return request[KEY]


async def stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Put the id on an answer, whatever made it; connected to ``on_response_prepare``."""
    response.headers[HEADER] = request_id(request)
