"""Request ids: the caller's own if it sent a usable one, else a new one; every response carries it."""

from __future__ import annotations

import re

from aiohttp import web
from uuid_utils import uuid4

HEADER = "X-Request-ID"
KEY = web.RequestKey("request_id", str)
# The id is copied into the log and into a header, where other characters could forge a line.
USABLE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id(request: web.Request) -> str:
    """Return the request's id; the first call creates it or takes it from the header."""
    if KEY not in request:
        given = request.headers.get(HEADER, "")
        request[KEY] = given if USABLE.fullmatch(given) else uuid4().hex
    return request[KEY]


async def stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Put the id on a response; connected to ``on_response_prepare``."""
    # A middleware would be too late for a stream: when the handler returns, the headers have been sent.
    response.headers[HEADER] = request_id(request)
