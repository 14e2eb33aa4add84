"""Downloads that are produced piece by piece on threads and sent while they are produced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from aiohttp import web

from api.http.threads import Threads

WRITE_SECONDS = 60.0


async def download(
    request: web.Request, threads: Threads, make: Callable[[], Iterator[bytes]], headers: dict[str, str]
) -> web.StreamResponse:
    """Send a file; no more than one piece of it is in memory.

    Args:
        request: the request; HEAD gets the headers alone.
        threads: the pool on which the pieces are produced.
        make: returns the pieces. An error that it or the first piece raises still becomes a problem response.
        headers: the headers of the response.
    """
    pieces = await threads.run(make)
    response = web.StreamResponse(headers=headers)
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    # Before prepare() sends the status: after it an error can only cut the connection.
    first = await threads.run(lambda: next(pieces))
    await response.prepare(request)
    await _write(response, first)
    # With a default, because a future cannot carry a StopIteration.
    while (piece := await threads.run(lambda: next(pieces, None))) is not None:
        await _write(response, piece)
    await response.write_eof()
    return response


async def _write(response: web.StreamResponse, piece: bytes) -> None:
    # A client that stops reading would otherwise keep the request, and the piece in memory, for ever.
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(piece)
