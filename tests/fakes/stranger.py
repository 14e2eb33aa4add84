"""Servers other than our API: one responds, one says any bytes, one never ends its response, one takes no request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

from aiohttp import web

Respond = Callable[[web.Request], web.Response]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def responding(respond: Respond) -> AsyncIterator[str]:
    """Serve this response to every request; yield the URL."""

    async def handle(request: web.Request) -> web.Response:
        return respond(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaking(serve: Serve) -> AsyncIterator[str]:
    """Serve each connection with this function, which may break the rules of HTTP; yield the URL."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def hanging(greeting: bytes = b"", drip: bytes = b"") -> AsyncIterator[str]:
    """Accept every connection, send ``greeting``, then ``drip`` ten times a second, for ever; yield the URL."""
    over = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while not over.is_set():
            writer.write(drip)
            try:
                await asyncio.wait_for(over.wait(), 0.1)
            except TimeoutError:
                continue
        writer.close()

    async with speaking(hang) as url:
        try:
            yield url
        finally:
            over.set()


@contextmanager
def deaf() -> Iterator[str]:
    """Leave every connection unopened, as a host does whose firewall drops packets; yield the URL."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        # The kernel drops what asks for a connection while the one place of the backlog is taken.
        stack.enter_context(socket.create_connection(listening.getsockname()))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
