"""Files that are made piece by piece on threads, and sent while they are made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from aiohttp import web

from api.http.threads import Threads

WRITE_SECONDS = 60.0


async def download(
    request: web.Request, threads: Threads, make: Callable[[], Iterator[bytes]], headers: dict[str, str]
) -> web.StreamResponse:
    """Answer with a file; no more than one piece of it is in memory.

    Args:
        request: what is answered; HEAD gets the headers alone.
        threads: where the pieces are made.
        make: begins to make them; what it raises, and what the first piece raises, is still answered as a problem.
        headers: of the answer.
    """
    pieces = await threads.run(make)
    response = web.StreamResponse(headers=headers)
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    first = await threads.run(lambda: next(pieces))
    await response.prepare(request)
    await _write(response, first)
    while (piece := await threads.run(lambda: next(pieces, None))) is not None:
        await _write(response, piece)
    await response.write_eof()
    return response


async def _write(response: web.StreamResponse, piece: bytes) -> None:
    # Whoever stops reading would keep a thread's worth of memory for ever.
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(piece)
